"""What `effgen verify` prints: a table of cases, the verdict, notes, JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from effgen.report.tables import numbers_table, status_text
from effgen.report.text import threads_text

if TYPE_CHECKING:  # a command loads only what it reports on
    from effgen.judge.case import Case
    from effgen.judge.verify import VerifyReport

_CASE_COLUMNS = ("input", "max abs", "relative L2", "top-1", "top-5", "noise", "")


def json_from_verify(report: VerifyReport) -> dict[str, Any]:
    """`passed`, `max_abs` and `rel_l2` (null: not finite) over the judged cases, then the fields of `VerifyReport`."""
    worst = {"passed": report.passed, "max_abs": report.max_abs, "rel_l2": report.rel_l2, "judged": report.judged}
    return {**worst, "worst_case": report.worst.name, "worst_output": report.worst.output, **asdict(report)}


def table_from_verify(report: VerifyReport) -> Table:
    """One row an input, which is the worst of its outputs, the worst numbers below."""
    table = numbers_table(f"{report.model} on {report.run_by} against {report.judge}", _CASE_COLUMNS, left=1)
    for case in report.by_input:
        table.add_row(*_case_cells(case))
    table.add_section()
    verdict = status_text("ok" if report.passed else "problem", "pass" if report.passed else "FAIL")
    table.add_row("worst", f"{report.max_abs:.2e}", f"{report.rel_l2:.2e}", "", "", "", verdict, style="bold")
    return table


def summary_from_verify(report: VerifyReport) -> str:
    """The verdict in a line: the tolerance, and the one it would have needed."""
    verdict = "passed" if report.passed else "FAILED"
    needed = f"needed {report.rel_l2:.1e} ({_title(report.worst)})"
    judged = f"{report.judged} of {len(report.cases)} cases judged"
    tolerance = f"tolerance relative L2 <= {report.tolerance:.0e}"
    return f"{verdict}: {tolerance}, {needed}; {judged}; {threads_text(report.threads)}"


def _case_cells(case: Case) -> Iterable[str | Text]:
    numbers = (
        f"{case.max_abs:.2e}",
        f"{case.rel_l2:.2e}",
        *("" if share is None else f"{share:.0%}" for share in (case.top1, case.top5)),
        f"{case.noise:.0e}" if case.noise else "",
    )
    return (_title(case), *numbers, _verdict(case))


def _title(case: Case) -> str:
    return f"{case.name}: {case.output}" if case.output else case.name


def _verdict(case: Case) -> Text:
    if not case.passed:
        return status_text("problem", "FAIL" if case.finite else "not finite")
    return status_text("ok", "pass") if case.judged else status_text("warning", "unstable")


def notes_from_verify(report: VerifyReport) -> list[str]:
    """What "unstable" means, where a case is, and the verdict."""
    unstable = any(not case.judged for case in report.cases)
    meaning = "unstable: PyTorch's own answer moves by `noise` when pixels change by a millionth; not judged"
    return [*([meaning] if unstable else []), summary_from_verify(report)]
