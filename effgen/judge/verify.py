"""Is the compiled library right? Its outputs beside PyTorch's for the bundle's own graph, case by case.

Without PyTorch the golden pair in the bundle, which PyTorch computed when it was compiled, is all there is to judge by.

Deep networks with untrained weights amplify rounding where their activations are large: B7's logits for noise of
standard deviation 5 change by 60% when its pixels change by a millionth, in PyTorch as in every other runtime. No
float32 tolerance can be held to there, so PyTorch is asked twice, and where its own two answers differ the case is
reported as unstable and only has to be finite and not far off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from effgen.deploy.executors import Images, executor_of
from effgen.errors import BundleError
from effgen.judge.case import Case, compare_all, golden_cases, golden_pair, noises, pytorch_judge, worst_of
from effgen.judge.originals import Original, original_judge
from effgen.words import OnPhase

if TYPE_CHECKING:
    from effgen.measure.protocol import Remote


SCALES = (0.1, 1.0, 10.0, 100.0)
GOLDEN_JUDGE = "golden pair (torch is not installed)"


#: Blobs of an image-like input: this many random colours along a side, magnified.
_BLOBS = 7


@dataclass(frozen=True)
class VerifyReport:
    """Every case, one for each output, and the worst of the judged ones: their `rel_l2` is the tolerance that would
    have been needed.

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
        """The largest difference of a number over the judged cases, 0 where there is none."""
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
    def by_input(self) -> list[Case]:
        """The worst of each input's outputs."""
        names = dict.fromkeys(case.name for case in self.cases)
        return [worst_of([case for case in self.cases if case.name == name]) for name in names]

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
    on_phase: OnPhase = lambda phase: None,
    remote: Remote | None = None,
    against: Original | None = None,
    weights: Path | None = None,
) -> VerifyReport:
    """Run the bundle at `path` on several inputs drawn from `seed` and compare with PyTorch running the bundle's graph,
    or, `against` it, with the model that its `weights` (the checkpoint) come from, built by its own project.

    Raises BundleError where the bundle cannot be loaded or there is no such model, BuildError where a tool that runs
    another architecture's is missing. A miss is no error here: see `VerifyReport.passed`.
    """
    on_phase("load the bundle")
    executor = executor_of(path, threads, on_phase, remote)
    manifest = executor.manifest
    tolerance = float(manifest.tolerance["rel_l2"])
    on_phase("golden pair")
    image, expected = golden_pair(path)
    names = manifest.output_names
    cases = golden_cases(path, executor(image), names, tolerance)
    if manifest.standalone is not None and remote is None:
        from effgen.deploy.standalone import standalone_answer
        from effgen.judge.standalone import CASE

        on_phase(CASE)
        cases += compare_all(CASE, standalone_answer(path, manifest, image, threads), expected, names, tolerance)
    judge = GOLDEN_JUDGE
    if against is not None and find_spec("torch") is None:
        raise BundleError(f"--against {against.text}: needs PyTorch: pip install 'effgen[torch]'")
    if find_spec("torch") is not None:
        if against is None:
            on_phase("read the graph")
            reference, judge = pytorch_judge(path), f"pytorch {version('torch')}"
        else:
            on_phase(f"build {against.text}")
            judge, reference = original_judge(manifest, against, weights)
        for name, image in seeded_inputs(manifest.input, seed):
            on_phase(name)
            expected = reference(image)
            noise = noises(reference, image, expected, seed)
            cases += compare_all(name, executor(image), expected, names, tolerance, noise)
    return VerifyReport(manifest.name, judge, executor.name, executor.threads, tolerance, tuple(cases))


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
    photos = _image_like(shape, described.get("mean"), described.get("std"), generator)
    yield "image-like", photos
    # Call after call: what one leaves in the workspace must not reach the next.
    yield "three batches in turn", np.concatenate([photos[::-1], -photos, photos[:, :, :, ::-1]])


def _image_like(
    shape: tuple[int, ...], mean: list[float] | None, std: list[float] | None, generator: np.random.Generator
) -> Images:
    """Smooth blobs with some grain as 8-bit pixels, normalised as the manifest says, where it does."""
    batch, channels, height, width = shape
    mean, std = mean or [0.0] * channels, std or [1.0] * channels
    blobs = generator.uniform(0, 255, (batch, channels, _BLOBS, _BLOBS))
    rows, columns = (np.linspace(0, _BLOBS - 1, size).round().astype(int) for size in (height, width))
    grain = generator.normal(0, 12, shape)
    pixels = np.clip(blobs[:, :, rows][:, :, :, columns] + grain, 0, 255).astype(np.uint8)
    centre, spread = (np.asarray(values).reshape(1, -1, 1, 1) for values in (mean, std))
    normalised: Images = ((pixels / 255 - centre) / spread).astype(np.float32)
    return normalised
