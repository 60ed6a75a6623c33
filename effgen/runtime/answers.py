"""What a network answers, an array or several: where they lie in the array that the library writes, and as what users
get them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from effgen.runtime.manifest import Manifest

#: The output of a network that has one, `(batch, classes)` of a classifier; of others a tuple of all, in the manifest's
#: order. Images are NCHW.
Answer: TypeAlias = "NDArray[np.float32] | tuple[NDArray[np.float32], ...]"


def answer_of(outputs: Sequence[NDArray[np.float32]]) -> Answer:
    """All outputs as what users get."""
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def outputs_of(answer: Answer) -> tuple[NDArray[np.float32], ...]:
    """All outputs of an answer."""
    return answer if isinstance(answer, tuple) else (answer,)


def joined(answers: Sequence[Answer]) -> Answer:
    """Answers to several calls as one to all of their images."""
    return answer_of([np.concatenate(parts) for parts in zip(*map(outputs_of, answers), strict=True)])


@dataclass(frozen=True)
class AnswerLayout:
    """Each output's shape and where it begins, in floats, in the one array that a run writes."""

    shapes: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> AnswerLayout:
        """As the manifest says."""
        shapes = tuple(tuple(output["shape"]) for output in manifest.outputs)
        return cls(shapes, tuple(output.get("start", 0) // 4 for output in manifest.outputs))

    @property
    def floats(self) -> int:
        """Of the whole array."""
        return max(start + prod(shape) for start, shape in zip(self.starts, self.shapes, strict=True))

    def views(self, array: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """The outputs in the flat `array`."""
        return tuple(
            array[start : start + prod(shape)].reshape(shape)
            for start, shape in zip(self.starts, self.shapes, strict=True)
        )

    def answer(self, array: NDArray[np.float32]) -> Answer:
        """A copy of what the flat `array` holds."""
        return answer_of([view.copy() for view in self.views(array)])


def array_sizes(manifest: Manifest, weights_bytes: int) -> dict[str, int]:
    """How many numbers the arrays have that a trace of the bundle is given, in their order, by the library's names."""
    return {
        "image": prod(manifest.input["shape"]),
        "logits": AnswerLayout.of(manifest).floats,
        "weights": weights_bytes // 4,
        "workspace": manifest.workspace_bytes // 4,
        "clock": 2 * (len(manifest.steps) + 1),
    }
