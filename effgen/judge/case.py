"""Numbers of one comparison: distances between outputs, golden pairs, and how steady a judge is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from effgen.deploy.executors import Images, Logits
from effgen.errors import BundleError
from effgen.runtime.manifest import GOLDEN, MODEL

#: Images (batch, channels, height, width) -> logits (batch, classes).
ImagesToLogits = Callable[[Images], Logits]


#: Relative change of each pixel (standard deviation) for PyTorch's second answer: a few units in the last place.
_JITTER = 1e-6


#: A case is judged where PyTorch's two answers are this many times closer to each other than the tolerance.
_STABLE_FACTOR = 3


#: A case that is not judged fails beyond so many times what PyTorch's own answer moves by: rounding in every layer
#: weighs more than that of one image, but a wrong library answers something else altogether.
_FAR_FACTOR = 1000


#: Or beyond a tenth; where PyTorch's own answer moves by more than a hundredth, beyond ten times that.
_FAR = 0.1


_FAR_FACTOR_OF_LARGE = 10


#: Standard deviations of the golden image, the next one where answers to the one before say nothing.
_GOLDEN_SCALES = (1.0, 0.1, 0.01)


@dataclass(frozen=True)
class Case:
    """How far one call was from its reference.

    `max_abs` is the largest difference of a logit; `rel_l2` is norm(difference) / norm(reference) of the worst image
    of the batch, in float64; infinite where an output holds NaN or infinity. `top1` is the share of images whose
    best class agrees, `top5` the share of the reference's five best classes that are the library's too. `noise` is
    `rel_l2` between the reference's own answers to pixels that differ in their last digits; where it is too large, or
    the reference is not finite, the case is not `judged`. `finite` speaks of the library's output.
    """

    name: str
    images: int
    max_abs: float
    rel_l2: float
    top1: float
    top5: float
    noise: float
    finite: bool
    judged: bool
    passed: bool


def new_golden_pair(
    judge: ImagesToLogits, shape: tuple[int, ...], seed: int, tolerance: float
) -> tuple[Images, Logits]:
    """Normal noise of `shape` drawn from `seed`, and the judge's answer to it.

    Untrained weights may amplify rounding beyond any tolerance (EfficientNetV2-S's do): then the noise is weaker, if
    that helps. `tolerance` is float32's, in which the judge computes.
    """
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    pairs = []
    for scale in _GOLDEN_SCALES:
        image = noise * np.float32(scale)
        pairs.append((image, judge(image)))
        if _is_stable(judge, *pairs[-1], seed, tolerance):
            return pairs[-1]
    return pairs[0]


def _is_stable(judge: ImagesToLogits, image: Images, expected: Logits, seed: int, tolerance: float) -> bool:
    if not np.isfinite(expected).all():
        return False
    return relative_l2(judge(jittered(image, seed)), expected) * _STABLE_FACTOR <= tolerance


def golden_pair(path: Path) -> tuple[Images, Logits]:
    """Input and output that PyTorch computed at compile time."""
    try:
        with (path / GOLDEN).open("rb") as file, np.load(file) as arrays:
            image, output = arrays["input"], arrays["output"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise BundleError(f"{path / GOLDEN}: cannot read the golden pair: {error}; compile again") from None
    if not np.isfinite(output).all():
        raise BundleError(f"{path / GOLDEN}: its output is not finite: nothing can be judged by it; compile again")
    return image, output


def golden_case(path: Path, found: Logits, tolerance: float) -> Case:
    """The library's answer `found` beside the golden pair of the bundle at `path`.

    Where it misses, and PyTorch is installed, that is asked how stable its own answer is: a network of very many layers
    with untrained weights may turn rounding into any answer.
    """
    image, expected = golden_pair(path)
    case = compare("golden pair", found, expected, tolerance)
    if case.passed or find_spec("torch") is None:
        return case
    reference = pytorch_judge(path)
    noise = relative_l2(reference(jittered(image, seed=0)), reference(image))
    return compare("golden pair", found, expected, tolerance, noise)


def pytorch_judge(path: Path) -> ImagesToLogits:
    """PyTorch executing the graph of the bundle's own ONNX file."""
    from effgen.graph.onnx import graph_from_onnx
    from effgen.graph.reference import run_reference

    graph, weights = graph_from_onnx(path / MODEL)
    return lambda image: run_reference(graph, weights, image)


def jittered(image: Images, seed: int) -> Images:
    """`image` with every value changed in its last digits; zeros stay zeros."""
    factors = 1 + _JITTER * np.random.default_rng(seed).standard_normal(image.shape)
    return (image * factors).astype(np.float32)


def compare(name: str, found: Logits, expected: Logits, tolerance: float, noise: float = 0.0) -> Case:
    """Numbers of one case; `found` and `expected` are (batch, classes), `noise` as in `Case`."""
    if found.shape != expected.shape:
        raise BundleError(f"{name}: the library returned shape {found.shape}, its reference {expected.shape}")
    finite, comparable = (bool(np.isfinite(logits).all()) for logits in (found, expected))
    judged = comparable and noise * _STABLE_FACTOR <= tolerance
    rel_l2, max_abs = relative_l2(found, expected), float("inf")
    if finite and comparable:
        max_abs = float(np.abs(found.astype(np.float64) - expected).max())
    return Case(
        name=name,
        images=len(found),
        max_abs=max_abs,
        rel_l2=rel_l2,
        top1=top_agreement(found, expected, 1),
        top5=top_agreement(found, expected, 5),
        noise=noise,
        finite=finite,
        judged=judged,
        passed=not comparable or (finite and rel_l2 <= (tolerance if judged else _far(noise))),
    )


def _far(noise: float) -> float:
    """The relative L2 beyond which an answer is another one, whatever rounding does to a network with this `noise`."""
    return min(noise * _FAR_FACTOR, max(_FAR, noise * _FAR_FACTOR_OF_LARGE))


def relative_l2(found: Logits, expected: Logits) -> float:
    """norm(found - expected) / norm(expected) in float64 of the worst row; infinite where it is not a number.

    A row of zeros is matched by zeros only.
    """
    if not np.isfinite(found).all():
        return float("inf")
    reference = expected.astype(np.float64)
    differences = np.linalg.norm(found.astype(np.float64) - reference, axis=1)
    norms = np.linalg.norm(reference, axis=1)
    ratios = np.divide(differences, norms, out=np.full_like(norms, np.inf), where=norms > 0)
    ratios[differences == 0] = 0.0
    ratios[np.isnan(ratios)] = np.inf
    return float(ratios.max())


def top_agreement(found: Logits, expected: Logits, count: int) -> float:
    """Share of the reference's `count` best classes, over all images, that are among the library's."""
    count = min(count, expected.shape[1])
    best = (np.argsort(-logits, axis=1, kind="stable")[:, :count] for logits in (found, expected))
    shared = [len(set(ours) & set(theirs)) for ours, theirs in zip(*best, strict=True)]
    return sum(shared) / (count * len(shared))
