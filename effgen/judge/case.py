"""Numbers of one comparison: distances between outputs, golden pairs, and how steady a judge is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from effgen.deploy.executors import Images
from effgen.errors import BundleError
from effgen.runtime.answers import Answer, AnswerLayout, answer_of, outputs_of
from effgen.runtime.manifest import GOLDEN, MODEL, parse_manifest

if TYPE_CHECKING:
    from effgen.graph import Graph, Weights

#: Images (batch, channels, height, width) -> logits (batch, classes), or another answer.
Judge = Callable[[Images], Answer]


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
    """How far one output of one call was from its reference; `output` is its name, where there are several.

    `max_abs` is the largest difference of a number; `rel_l2` is norm(difference) / norm(reference) of the worst image
    of the batch, in float64; infinite where an output holds NaN or infinity. `top1` is the share of images whose
    best class agrees, `top5` the share of the reference's five best classes that are the library's too, None of what
    are no classes. `noise` is
    `rel_l2` between the reference's own answers to pixels that differ in their last digits; where it is too large, or
    the reference is not finite, the case is not `judged`. `finite` speaks of the library's output.
    """

    name: str
    images: int
    max_abs: float
    rel_l2: float
    top1: float | None
    top5: float | None
    noise: float
    finite: bool
    judged: bool
    passed: bool
    output: str = ""

    @property
    def of_output(self) -> str:
        """Which output, as the end of a clause; empty where there is one."""
        return f" about {self.output}" if self.output else ""


# Twice: two roundings are two errors, of about 1.4 times one's size.
_ROUNDINGS = 2.0


def new_golden_pair(judge: Judge, shape: tuple[int, ...], seed: int, tolerance: float) -> tuple[Images, Answer]:
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


def _is_stable(judge: Judge, image: Images, expected: Answer, seed: int, tolerance: float) -> bool:
    if not is_finite(expected):
        return False
    return relative_l2(judge(jittered(image, seed)), expected) * _STABLE_FACTOR <= tolerance


def tolerance_of_codes(rounded: Answer, unrounded: Answer) -> float:
    """Relative L2 that another computation of a network with codes may be off: a number near the middle of two codes
    becomes one or the other, which moves others over theirs. In the end all rounding may differ, each time by as much
    as the network does without rounding, and of another image by more."""
    return float(f"{_ROUNDINGS * relative_l2(rounded, unrounded):.1e}")


def is_finite(answer: Answer) -> bool:
    """Whether all numbers of all outputs are."""
    return all(bool(np.isfinite(output).all()) for output in outputs_of(answer))


def save_golden_pair(path: Path, image: Images, answer: Answer) -> None:
    """Write the pair into the bundle at `path`: arrays "input" and "output", of several "output.0", "output.1"..."""
    outputs = outputs_of(answer)
    arrays: dict[str, Any] = {"input": image, **dict(zip(_output_names(len(outputs)), outputs, strict=True))}
    np.savez(path / GOLDEN, **arrays)


def _output_names(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output.{number}" for number in range(count)]


def golden_pair(path: Path) -> tuple[Images, Any]:
    """Image and answer (`Answer`, typed as either) that PyTorch computed at compile time, of the shapes that the
    manifest of the bundle at `path` states. Raises BundleError where the file does not hold them."""
    manifest = parse_manifest(path)
    return stored_golden_pair(path, tuple(manifest.input["shape"]), AnswerLayout.of(manifest).shapes)


def stored_golden_pair(
    path: Path, image_shape: tuple[int, ...], answer_shapes: Sequence[tuple[int, ...]]
) -> tuple[Images, Any]:
    """`golden_pair` of a folder that has no manifest yet, for arrays of these shapes."""
    shapes = {"input": image_shape, **dict(zip(_output_names(len(answer_shapes)), answer_shapes, strict=True))}
    try:
        with ZipFile(path / GOLDEN) as archive:
            image, *outputs = (_stored_array(archive, name, shape) for name, shape in shapes.items())
    # A damaged archive makes its reader trip over anything: struct.error, zlib.error, NotImplementedError, EOFError...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BundleError(f"{path / GOLDEN}: cannot read the golden pair: {reason}; compile again") from None
    answer = answer_of(outputs)
    if not is_finite(answer):
        raise BundleError(f"{path / GOLDEN}: its output is not finite: nothing can be judged by it; compile again")
    return image, answer


def _stored_array(archive: ZipFile, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array of numpy's archive that is float32 of that shape, looked at before memory is used. Raises ValueError,
    and what a damaged archive leads to."""
    with archive.open(f"{name}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name}: expected a .npy of version 1")
        found, by_columns, dtype = np.lib.format.read_array_header_1_0(member)
        if found != shape or dtype != np.dtype("<f4") or by_columns:
            raise ValueError(f"{name}: {dtype}{list(found)}, the manifest says float32{list(shape)}, by rows")
        data = member.read(4 * prod(shape) + 1)
    if len(data) != 4 * prod(shape):
        raise ValueError(f"{name}: not as long as its header says")
    return np.frombuffer(data, "<f4").reshape(shape).copy()  # to be written to, or a call copies it each time


def golden_cases(path: Path, found: Answer, names: Sequence[str], tolerance: float) -> list[Case]:
    """The library's answer `found` beside the golden pair of the bundle at `path`, output by output.

    Where one misses, and PyTorch is installed, that is asked how stable its own answer is: a network of very many
    layers with untrained weights may turn rounding into any answer.
    """
    image, expected = golden_pair(path)
    cases = compare_all("golden pair", found, expected, names, tolerance)
    if all(case.passed for case in cases) or find_spec("torch") is None:
        return cases
    reference = pytorch_judge(path)
    return compare_all("golden pair", found, expected, names, tolerance, noises(reference, image, reference(image)))


def pytorch_judge(path: Path) -> Judge:
    """PyTorch executing the graph of the bundle's own ONNX file."""
    from effgen.graph.onnx import graph_from_onnx

    return judge_of_graph(*graph_from_onnx(path / MODEL))


def judge_of_graph(graph: Graph, weights: Weights) -> Judge:
    """PyTorch executing a graph."""
    from effgen.graph.reference import reference_outputs

    return lambda image: answer_of(reference_outputs(graph, weights, image))


def noises(judge: Judge, image: Images, answer: Answer, seed: int = 0) -> list[float]:
    """How far each output of the judge's `answer` to `image` moves when its pixels change in their last digits."""
    moved = outputs_of(judge(jittered(image, seed)))
    return [relative_l2(other, output) for other, output in zip(moved, outputs_of(answer), strict=True)]


def jittered(image: Images, seed: int) -> Images:
    """`image` with every value changed in its last digits; zeros stay zeros."""
    factors = 1 + _JITTER * np.random.default_rng(seed).standard_normal(image.shape)
    return (image * factors).astype(np.float32)


def compare_all(
    name: str,
    found: Answer,
    expected: Answer,
    names: Sequence[str],
    tolerance: float,
    noise: Sequence[float] | None = None,
) -> list[Case]:
    """A case for each output, which are called `names`; `noise` of each as in `Case`."""
    ours, theirs = outputs_of(found), outputs_of(expected)
    if len(ours) != len(theirs):
        raise BundleError(f"{name}: the library returned {len(ours)} outputs, its reference {len(theirs)}")
    shown = names if len(theirs) > 1 else [""]
    each = zip(shown, ours, theirs, noise or [0.0] * len(theirs), strict=True)
    return [replace(compare(name, one, other, tolerance, moved), output=title) for title, one, other, moved in each]


def worst_of(cases: Sequence[Case]) -> Case:
    """One that failed, else one that is not judged; of these, or of all, the one that is furthest off."""
    return max(cases, key=lambda case: (not case.passed, not case.judged, case.rel_l2))


def compare(
    name: str, found: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float, noise: float = 0.0
) -> Case:
    """Numbers of one case; `found` and `expected` are an output each, the batch first, `noise` as in `Case`."""
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


def relative_l2(found: Answer, expected: Answer) -> float:
    """norm(found - expected) / norm(expected) in float64 of the worst image of the worst output; infinite where it is
    not a number.

    An output of zeros is matched by zeros only.
    """
    return max(_relative_l2(*pair) for pair in zip(outputs_of(found), outputs_of(expected), strict=True))


def _relative_l2(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    reference = expected.astype(np.float64).reshape(len(expected), -1)
    differences = np.linalg.norm(found.astype(np.float64).reshape(reference.shape) - reference, axis=1)
    norms = np.linalg.norm(reference, axis=1)
    ratios = np.divide(differences, norms, out=np.full_like(norms, np.inf), where=norms > 0)
    ratios[differences == 0] = 0.0
    ratios[np.isnan(ratios)] = np.inf
    return float(ratios.max())


def top_agreement(found: NDArray[np.float32], expected: NDArray[np.float32], count: int) -> float | None:
    """Share of the reference's `count` best classes, over all images, that are among the library's; None where the
    output is not `(batch, classes)`."""
    if expected.ndim != 2:
        return None
    count = min(count, expected.shape[1])
    best = (np.argsort(-logits, axis=1, kind="stable")[:, :count] for logits in (found, expected))
    shared = [len(set(ours) & set(theirs)) for ours, theirs in zip(*best, strict=True)]
    return sum(shared) / (count * len(shared))
