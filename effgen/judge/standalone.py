"""The standalone library run on this machine: the shared one in this process; of another machine's the static one, in a
program under the target's emulator."""

from __future__ import annotations

from pathlib import Path

from effgen.deploy.executors import Images
from effgen.deploy.standalone.run import answer_of_program, standalone_answer
from effgen.errors import VerifyError
from effgen.judge.case import compare_all, worst_of
from effgen.runtime.answers import Answer
from effgen.runtime.manifest import Manifest
from effgen.words import OnPhase

#: The row of a report.
CASE = "golden pair, standalone"


def check_standalone(bundle: Path, manifest: Manifest, image: Images, expected: Answer, on_phase: OnPhase) -> None:
    """Raise VerifyError where the standalone library of `bundle`, or its program, misses the tolerance on this pair."""
    assert manifest.standalone is not None
    on_phase("check the standalone library")
    answers = {"library": standalone_answer(bundle, manifest, image)}
    if manifest.standalone["executable"] and not manifest.is_foreign:  # else the program was what gave that answer
        answers["program"] = answer_of_program(bundle, manifest, image, None)
    tolerance = manifest.tolerance["rel_l2"]
    for kind, found in answers.items():
        case = worst_of(compare_all(CASE, found, expected, manifest.output_names, tolerance))
        if not case.passed:
            raise VerifyError(
                f"{manifest.name}: the standalone {kind} disagrees with PyTorch{case.of_output}: relative L2 "
                f"{case.rel_l2:.2e}, "
                f"expected at most {tolerance:g}; no bundle was written"
            )
