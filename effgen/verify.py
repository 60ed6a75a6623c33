"""Is the compiled library right? Its outputs beside PyTorch's for the bundle's own graph, case by case.

Without PyTorch the golden pair in the bundle, which PyTorch computed when it was compiled, is all there is to judge by.

Deep networks with untrained weights amplify rounding where their activations are large: B7's logits for noise of
standard deviation 5 change by 60% when its pixels change by a millionth, in PyTorch as in every other runtime. No
float32 tolerance can be held to there, so PyTorch is asked twice, and where its own two answers differ the case is
reported as unstable and only has to be finite and not far off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from effgen.errors import BundleError
from effgen.executors import Images, Logits, executor_of
from effgen.runtime.manifest import GOLDEN, MODEL

if TYPE_CHECKING:
    from effgen.measure.protocol import Remote

#: Images (batch, channels, height, width) -> logits (batch, classes).
Judge = Callable[[Images], Logits]

SCALES = (0.1, 1.0, 10.0, 100.0)
GOLDEN_JUDGE = "golden pair (torch is not installed)"

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

#: Blobs of an image-like input: this many random colours along a side, magnified.
_BLOBS = 7


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


@dataclass(frozen=True)
class VerifyReport:
    """Every case, and the worst of the judged ones: their `rel_l2` is the tolerance that would have been needed.

    `run_by` is this processor, or the emulator's program.
    """

    model: str
    judge: str
    run_by: str
    threads: int
    tolerance: float
    cases: tuple[Case, ...]

    @property
    def max_abs(self) -> float:
        """The largest difference of a logit over the judged cases, 0 where there is none."""
        return max((case.max_abs for case in self.cases if case.judged), default=0.0)

    @property
    def rel_l2(self) -> float:
        """The largest relative L2 over the judged cases."""
        return self.worst.rel_l2

    @property
    def worst(self) -> Case:
        """The judged case with the largest relative L2; the golden pair where PyTorch is too unstable to judge any."""
        judged = [case for case in self.cases if case.judged] or self.cases[:1]
        return max(judged, key=lambda case: case.rel_l2)

    @property
    def judged(self) -> int:
        """How many cases were held to the tolerance."""
        return sum(case.judged for case in self.cases)

    @property
    def passed(self) -> bool:
        """Whether every output is finite, and within the tolerance where it is judged; one case at least was."""
        return self.judged > 0 and all(case.passed for case in self.cases)


def verify_bundle(
    path: Path,
    threads: int | None = None,
    seed: int = 0,
    on_phase: Callable[[str], None] = lambda phase: None,
    remote: Remote | None = None,
) -> VerifyReport:
    """Run the bundle at `path` on several inputs drawn from `seed` and compare with PyTorch.

    Raises BundleError where the bundle cannot be loaded, BuildError where a tool that runs another architecture's is
    missing. A miss is no error here: see `VerifyReport.passed`.
    """
    on_phase("load the bundle")
    executor = executor_of(path, threads, on_phase, remote)
    manifest = executor.manifest
    tolerance = float(manifest.tolerance["rel_l2"])
    on_phase("golden pair")
    image, expected = golden_pair(path)
    cases = [golden_case(path, executor(image), tolerance)]
    if manifest.standalone is not None and remote is None:
        from effgen.standalone import CASE, standalone_logits

        on_phase(CASE)
        cases.append(compare(CASE, standalone_logits(path, manifest, image, threads), expected, tolerance))
    judge = GOLDEN_JUDGE
    if find_spec("torch") is not None:
        on_phase("read the graph")
        reference = pytorch_judge(path)
        judge = f"pytorch {version('torch')}"
        for name, image in seeded_inputs(manifest.input, seed):
            on_phase(name)
            expected = reference(image)
            noise = relative_l2(reference(jittered(image, seed)), expected)
            cases.append(compare(name, executor(image), expected, tolerance, noise))
    return VerifyReport(manifest.name, judge, executor.name, executor.threads, tolerance, tuple(cases))


def new_golden_pair(judge: Judge, shape: tuple[int, ...], seed: int, tolerance: float) -> tuple[Images, Logits]:
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


def _is_stable(judge: Judge, image: Images, expected: Logits, seed: int, tolerance: float) -> bool:
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


def pytorch_judge(path: Path) -> Judge:
    """PyTorch executing the graph of the bundle's own ONNX file."""
    from effgen.onnx_reader import graph_from_onnx
    from effgen.reference import run_reference

    graph, weights = graph_from_onnx(path / MODEL)
    return lambda image: run_reference(graph, weights, image)


def seeded_inputs(described: Mapping[str, Any], seed: int) -> Iterator[tuple[str, Images]]:
    """Names and images for a bundle whose manifest describes its input as `described`; the same for the same seed.

    Images come as one batch of the bundle or several. Every image of a batch differs from the others, so that a
    library which mixes them up is caught.
    """
    generator = np.random.default_rng(seed)
    shape = tuple(described["shape"])
    noise = generator.standard_normal(shape, dtype=np.float32)
    for scale in SCALES:
        yield f"normal x {scale:g}", noise * np.float32(scale)
    levels = np.linspace(0.5, 1.0, shape[0], dtype=np.float32).reshape(-1, 1, 1, 1)
    yield "constant", np.broadcast_to(levels, shape).copy()
    yield "zeros", np.zeros(shape, np.float32)
    photos = _image_like(shape, described["mean"], described["std"], generator)
    yield "image-like", photos
    # Call after call: what one leaves in the workspace must not reach the next.
    yield "three batches in turn", np.concatenate([photos[::-1], -photos, photos[:, :, :, ::-1]])


def _image_like(shape: tuple[int, ...], mean: list[float], std: list[float], generator: np.random.Generator) -> Images:
    """Smooth blobs with some grain as 8-bit pixels, normalised as the manifest says."""
    batch, channels, height, width = shape
    blobs = generator.uniform(0, 255, (batch, channels, _BLOBS, _BLOBS))
    rows, columns = (np.linspace(0, _BLOBS - 1, size).round().astype(int) for size in (height, width))
    grain = generator.normal(0, 12, shape)
    pixels = np.clip(blobs[:, :, rows][:, :, :, columns] + grain, 0, 255).astype(np.uint8)
    centre, spread = (np.asarray(values).reshape(1, -1, 1, 1) for values in (mean, std))
    normalised: Images = ((pixels / 255 - centre) / spread).astype(np.float32)
    return normalised


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
