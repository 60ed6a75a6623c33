"""The standalone library run on this machine: the shared one in this process; of another machine's the static one, in a
program under the target's emulator."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from effgen.errors import BundleError, VerifyError
from effgen.executors import Images, Logits, emulator_of
from effgen.runtime.manifest import Manifest
from effgen.runtime.standalone import StandaloneModel
from effgen.standalone.build import build_program
from effgen.tools import complaint
from effgen.verify import compare

#: The row of a report.
CASE = "golden pair, standalone"


def check_standalone(
    bundle: Path, manifest: Manifest, image: Images, expected: Logits, on_phase: Callable[[str], None]
) -> None:
    """Raise VerifyError where the standalone library of `bundle`, or its program, misses the tolerance on this pair."""
    assert manifest.standalone is not None
    on_phase("check the standalone library")
    answers = {"library": standalone_logits(bundle, manifest, image)}
    if manifest.standalone["executable"] and not manifest.is_foreign:  # else the program was what gave that answer
        answers["program"] = _by_program(bundle, manifest, image, None)
    tolerance = manifest.tolerance["rel_l2"]
    for kind, found in answers.items():
        case = compare(CASE, found, expected, tolerance)
        if not case.passed:
            raise VerifyError(
                f"{manifest.name}: the standalone {kind} disagrees with PyTorch: relative L2 {case.rel_l2:.2e}, "
                f"expected at most {tolerance:g}; no bundle was written"
            )


def standalone_logits(bundle: Path, manifest: Manifest, image: Images, threads: int | None = None) -> Logits:
    """What the library makes of one batch `(batch, channels, height, width)`: logits `(batch, classes)`.

    It is the shared one; for another architecture the static one, in the bundle's program or in one made for this.

    Raises BundleError where it cannot be run, BuildError where a tool that another architecture's needs is missing.
    """
    if manifest.is_foreign:
        return _by_program(bundle, manifest, image, threads)
    with StandaloneModel(bundle, manifest, threads) as model:
        return model(image)


def _by_program(bundle: Path, manifest: Manifest, image: Images, threads: int | None) -> Logits:
    """By the bundle's program, or one made of its static library, under an emulator where it needs one."""
    assert manifest.standalone is not None
    emulator = emulator_of(manifest)
    with tempfile.TemporaryDirectory(prefix="effgen-standalone-") as temporary:
        work = Path(temporary)
        program = work / "program"
        if manifest.standalone["executable"]:
            program = bundle / manifest.standalone["executable"]
        else:
            build_program(bundle, manifest, program)
        np.ascontiguousarray(image, "<f4").tofile(work / "image.f32")
        options = [] if threads is None else ["--threads", str(threads)]
        command = [*emulator, program.absolute(), *options, work / "image.f32", work / "logits.f32"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            how = f" under {Path(emulator[0]).name}" if emulator else ""
            raise BundleError(
                f"{bundle}: the standalone program{how} ended with status {done.returncode}: {complaint(done.stderr)}"
            )
        return np.fromfile(work / "logits.f32", "<f4").reshape(manifest.output["shape"])
