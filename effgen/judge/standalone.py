"""The standalone library run on this machine: the shared one in this process; of another machine's the static one, in a
program under the target's emulator."""

from __future__ import annotations

from pathlib import Path

from effgen.deploy.executors import Images, Logits
from effgen.deploy.standalone.run import _by_program, standalone_logits
from effgen.errors import VerifyError
from effgen.judge.case import compare
from effgen.runtime.manifest import Manifest
from effgen.words import OnPhase

#: The row of a report.
CASE = "golden pair, standalone"


def check_standalone(bundle: Path, manifest: Manifest, image: Images, expected: Logits, on_phase: OnPhase) -> None:
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
