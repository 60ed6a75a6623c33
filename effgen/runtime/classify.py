"""From a network's output to classes: what every loaded model does with pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError, ImageError
from effgen.runtime.answers import AnswerLayout, outputs_of
from effgen.runtime.labels import read_labels
from effgen.runtime.manifest import LABELS, Manifest
from effgen.runtime.picture import Picture, Preparation, preparation_of
from effgen.words import OutputKind

#: A list or tuple of `Picture`s. Not Sequence: a path, too, is one of str.
Pictures: TypeAlias = "list[Any] | tuple[Any, ...]"

#: The logarithm of a probability of 1, as far as float32 sums may miss it.
_ROUNDED = 1e-3


@dataclass(frozen=True)
class Prediction:
    """A class: its number, its name (the number as text where the bundle has no labels), and its
    probability, as `probabilities_of` says."""

    index: int
    label: str
    probability: float


class ImageClassifier(ABC):
    """Adds `classify` to what is called with a batch of prepared images."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.layout = AnswerLayout.of(manifest)
        #: The classes' names, the bundle's or what is set here; None: they have numbers only.
        self.labels: tuple[str, ...] | None = None
        if LABELS in manifest.files:
            self.labels = read_labels(path / LABELS, self.classes)

    @abstractmethod
    def __call__(self, image: NDArray[np.float32]) -> Any:
        """float32 images NCHW of the bundle's shape -> float32 `(batch, classes)`, which are what the manifest's
        `output_kind` says, or what else the network gives: an `Answer`, of which callers know whether it is an array,
        or a tuple in the order of `output_names`."""

    @property
    def classes(self) -> int:
        """How many there are. Raises BundleError where the network is no classifier."""
        return classes_of(self.manifest)

    def refuse_others(self) -> None:
        """Raise BundleError where the network is no classifier."""
        classes_of(self.manifest)

    @property
    def output_names(self) -> list[str]:
        """Of what a call returns, in its order."""
        return self.manifest.output_names

    @cached_property
    def preparation(self) -> Preparation:
        """From a picture to an image of the batch. Raises BundleError where the manifest does not say how."""
        return preparation_of(self.manifest)

    @overload
    def classify(self, image: Picture, top: int = 5) -> list[Prediction]: ...

    @overload
    def classify(self, image: Pictures, top: int = 5) -> list[list[Prediction]]: ...

    def classify(self, image: Picture | Pictures, top: int = 5) -> list[Prediction] | list[list[Prediction]]:
        """The `top` likeliest classes of a picture, the likeliest first; of a list of pictures, a list for each.

        A picture is a file's path, its bytes, a Pillow image or uint8 pixels `(height, width, 3)`, RGB. Raises
        ImageError where one cannot be read, BundleError where the bundle does not classify pictures.
        """
        if not isinstance(image, list | tuple):
            return self.predictions(self.prepare([image]), 1, top)[0]
        batch = self.manifest.input["shape"][0]
        found: list[list[Prediction]] = []
        for start in range(0, len(image), batch):
            group = image[start : start + batch]
            found += self.predictions(self.prepare(group), len(group), top)
        return found

    def prepare(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """A batch that begins with `pictures`, at most as many as it holds; the rest is zeros."""
        return self.batch_of([self.preparation(picture) for picture in pictures])

    def batch_of(self, images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Images `(channels, height, width)` as a batch, filled up with zeros."""
        batch = np.zeros(self.manifest.input["shape"], np.float32)
        for row, image in zip(batch, images, strict=False):
            row[...] = image
        return batch

    def predictions(self, images: NDArray[np.float32], count: int, top: int = 5) -> list[list[Prediction]]:
        """What the model says of the first `count` images of a batch. Raises BundleError where it is no classifier."""
        self.refuse_others()
        (outputs,) = (output[:count] for output in outputs_of(self(images)))
        refuse_nonsense(outputs, self.manifest)
        return [top_predictions(row, top, self.labels, self.manifest.output_kind) for row in outputs]


def classes_of(manifest: Manifest) -> int:
    """How many classes the bundle tells apart. Raises BundleError where the network is no classifier."""
    if manifest.classes is None:
        outputs = ", ".join(f"{output['name']} {tuple(output['shape'])}" for output in manifest.outputs)
        raise BundleError(
            f"{manifest.name}: is no classifier, which gives classes: it gives {outputs}; "
            "call it from Python, effgen.load(BUNDLE)(image)"
        )
    return manifest.classes


def refuse_nonsense(outputs: NDArray[np.float32], manifest: Manifest) -> None:
    """Raise BundleError where `outputs` `(images, classes)` are no numbers of the bundle's kind."""
    if not _may_be(outputs, manifest.output_kind):
        raise BundleError(f"{manifest.name}: the output is not finite; are these its weights? `effgen verify`")


def top_predictions(
    output: NDArray[np.float32], top: int, labels: Sequence[str] | None, kind: OutputKind = "logits"
) -> list[Prediction]:
    """The `top` classes (all, where there are fewer) of an image's `output` `(classes,)`, by falling probability."""
    if top < 1:
        raise ImageError(f"top = {top}: expected at least 1")
    shares = probabilities_of(output, kind)
    order = np.argsort(-output, kind="stable")[:top]
    return [
        Prediction(int(index), str(index) if labels is None else labels[index], float(shares[index])) for index in order
    ]


def probabilities_of(output: NDArray[np.float32], kind: OutputKind) -> NDArray[np.float64]:
    """The probability of each class, float64: the softmax of logits, the sigmoid of one alone, probabilities as they
    are.

    Those of several labels stay as they are, too, each between 0 and 1: they need not sum to 1.
    """
    values = output.astype(np.float64)
    if kind == "log_probabilities":
        exponentials: NDArray[np.float64] = np.exp(values)
        return exponentials
    if kind != "logits":
        return values
    if values.size == 1:  # yes or no: a softmax would be sure of anything
        return np.asarray(0.5 * (1 + np.tanh(values / 2)), np.float64)
    powers = np.exp(values - values.max())
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares


def _may_be(outputs: NDArray[np.float32], kind: OutputKind) -> bool:
    """Whether these can be numbers of that kind. The logarithm of a probability that rounds to 0 is minus infinity."""
    if kind == "log_probabilities":
        return bool((outputs <= _ROUNDED).all())
    return bool(np.isfinite(outputs).all())
