"""Is the compiled library right? Its outputs beside PyTorch's for the bundle's own graph, case by case.

Without PyTorch the golden pair in the bundle, which PyTorch computed when it was compiled, is all there is to judge by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.runtime import load

Images = NDArray[np.float32]
Logits = NDArray[np.float32]

#: Images (batch, channels, height, width) -> logits (batch, classes).
Judge = Callable[[Images], Logits]

SCALES = (0.1, 1.0, 10.0)
GOLDEN_JUDGE = "golden pair (torch is not installed)"

#: Blobs of an image-like input: this many random colours along a side, magnified.
_BLOBS = 7


@dataclass(frozen=True)
class Case:
    """How far one call was from its reference.

    `max_abs` is the largest difference of a logit; `rel_l2` is norm(difference) / norm(reference) of the worst image
    of the batch, in float64; infinite where the library's output holds NaN or infinity. `top1` is the share of
    images whose best class agrees, `top5` the share of the reference's five best classes that are the library's too.
    """

    name: str
    images: int
    max_abs: float
    rel_l2: float
    top1: float
    top5: float
    finite: bool
    passed: bool


@dataclass(frozen=True)
class VerifyReport:
    """Every case, and the worst of them. `rel_l2` is at the same time the tolerance that it would have needed."""

    model: str
    judge: str
    threads: int
    tolerance: float
    cases: tuple[Case, ...]

    @property
    def max_abs(self) -> float:
        """The largest difference of a logit over all cases."""
        return max(case.max_abs for case in self.cases)

    @property
    def rel_l2(self) -> float:
        """The largest relative L2 over all cases."""
        return self.worst.rel_l2

    @property
    def worst(self) -> Case:
        """The case with the largest relative L2."""
        return max(self.cases, key=lambda case: case.rel_l2)

    @property
    def passed(self) -> bool:
        """Whether every case is finite and within the tolerance."""
        return all(case.passed for case in self.cases)


def verify_bundle(
    path: Path, threads: int | None = None, seed: int = 0, on_phase: Callable[[str], None] = lambda phase: None
) -> VerifyReport:
    """Run the bundle at `path` on several inputs drawn from `seed` and compare with PyTorch.

    Raises BundleError where the bundle cannot be loaded. A miss is no error here: see `VerifyReport.passed`.
    """
    on_phase("load the bundle")
    model = load(path, threads=threads)
    tolerance = float(model.manifest.tolerance["rel_l2"])
    on_phase("golden pair")
    image, expected = golden_pair(path)
    cases = [compare("golden pair", model(image), expected, tolerance)]
    judge = GOLDEN_JUDGE
    if find_spec("torch") is not None:
        on_phase("read the graph")
        reference = pytorch_judge(path)
        judge = f"pytorch {version('torch')}"
        for name, image in seeded_inputs(model.manifest.input, seed):
            on_phase(name)
            cases.append(compare(name, model(image), reference(image), tolerance))
    return VerifyReport(model.manifest.name, judge, model.threads, tolerance, tuple(cases))


def golden_pair(path: Path) -> tuple[Images, Logits]:
    """Input and output that PyTorch computed at compile time."""
    try:
        with np.load(path / "golden.npz") as arrays:
            return arrays["input"], arrays["output"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise BundleError(f"{path / 'golden.npz'}: cannot read the golden pair: {error}; compile again") from None


def pytorch_judge(path: Path) -> Judge:
    """PyTorch executing the graph of the bundle's own ONNX file."""
    from effgen.onnx_reader import graph_from_onnx
    from effgen.reference import run_reference

    graph, weights = graph_from_onnx(path / "model.onnx")
    return lambda image: run_reference(graph, weights, image)


def seeded_inputs(described: Mapping[str, Any], seed: int) -> Iterator[tuple[str, Images]]:
    """Names and images for a bundle whose manifest describes its input as `described`; the same for the same seed.

    Every image of a batch differs from the others, so that a library which mixes them up is caught.
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
    if shape[0] > 1:
        yield "image-like, batch rolled by one", np.roll(photos, 1, axis=0)


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


def compare(name: str, found: Logits, expected: Logits, tolerance: float) -> Case:
    """Numbers of one case; `found` and `expected` are (batch, classes)."""
    if found.shape != expected.shape:
        raise BundleError(f"{name}: the library returned shape {found.shape}, its reference {expected.shape}")
    finite = bool(np.isfinite(found).all())
    rel_l2, max_abs = relative_l2(found, expected), float("inf")
    if finite:
        max_abs = float(np.abs(found.astype(np.float64) - expected).max())
    top1, top5 = top_agreement(found, expected, 1), top_agreement(found, expected, 5)
    passed = finite and rel_l2 <= tolerance
    return Case(name, len(found), max_abs, rel_l2, top1, top5, finite, passed)


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
