"""The standalone library run on this machine: in this process, or as a program under the target's emulator."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from effgen.errors import BundleError, VerifyError
from effgen.executors import Images, Logits
from effgen.runtime.manifest import Manifest
from effgen.runtime.standalone import StandaloneModel
from effgen.standalone.build import build_program
from effgen.target_file import Emulator
from effgen.toolchain import emulator_command
from effgen.tools import complaint
from effgen.verify import compare

#: The row of a report.
CASE = "golden pair, standalone"


def check_standalone(
    bundle: Path, manifest: Manifest, image: Images, expected: Logits, on_phase: Callable[[str], None]
) -> None:
    """Raise VerifyError where the standalone library of `bundle` misses the tolerance on this pair."""
    on_phase("check the standalone library")
    tolerance = manifest.tolerance["rel_l2"]
    case = compare(CASE, standalone_logits(bundle, manifest, image), expected, tolerance)
    if not case.passed:
        raise VerifyError(
            f"{manifest.name}: the standalone library disagrees with PyTorch: relative L2 {case.rel_l2:.2e}, "
            f"expected at most {tolerance:g}; no bundle was written"
        )


def standalone_logits(bundle: Path, manifest: Manifest, image: Images, threads: int | None = None) -> Logits:
    """What the library makes of one batch `(batch, channels, height, width)`: logits `(batch, classes)`.

    Raises BundleError where it cannot be run, BuildError where a tool that another architecture's needs is missing.
    """
    if manifest.is_foreign:
        return _emulated(bundle, manifest, image, threads)
    with StandaloneModel(bundle, manifest, threads) as model:
        return model(image)


def _emulated(bundle: Path, manifest: Manifest, image: Images, threads: int | None) -> Logits:
    assert manifest.standalone is not None
    stated = manifest.target.get("emulator")
    emulator = emulator_command(
        manifest.target["name"], manifest.architecture, None if stated is None else Emulator(**stated)
    )
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
            raise BundleError(
                f"{bundle}: the standalone library under {Path(emulator[0]).name} ended with status "
                f"{done.returncode}: {complaint(done.stderr)}"
            )
        return np.fromfile(work / "logits.f32", "<f4").reshape(manifest.output["shape"])
