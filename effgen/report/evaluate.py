"""What `effgen eval` prints: shares of right answers and of agreement, the worst classes, notes, JSON."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from rich.table import Table

from effgen.report.tables import numbers_table
from effgen.report.text import threads_text

if TYPE_CHECKING:  # a command loads only what it reports on
    from effgen.judge.evaluate import ClassCount, EvalReport

#: Classes that the table lists.
_LISTED = 5

_MATCHED = {
    "labels": "folders are classes by the bundle's labels",
    "numbers": "folders are class numbers",
    "order": "folders are classes in the order of their names",
}


def json_from_eval(report: EvalReport) -> dict[str, Any]:
    """The fields of `EvalReport`, and `worst_classes`, the numbers of those that the table lists."""
    worst = [one.index for one in report.worst_classes(_LISTED)]
    return {**asdict(report), "worst_classes": worst}


def tables_from_eval(report: EvalReport) -> list[Table]:
    """The shares, and where classes were mistaken the worst of them."""
    worst = report.worst_classes(_LISTED)
    return [_shares_table(report), *([_classes_table(worst)] if worst else [])]


def _shares_table(report: EvalReport) -> Table:
    table = numbers_table(f"{report.model} on {report.run_by}", ("", "bundle", report.reference), left=1)
    table.add_row("images", str(report.images), "")
    if report.found is not None and report.expected is not None:
        table.add_row("top-1", *(_share(each.top1) for each in (report.found, report.expected)))
        if report.found.top5 is not None:
            table.add_row("top-5", *(_share(each.top5) for each in (report.found, report.expected)))
    table.add_row("same best class", _share(report.agreement), "")
    table.add_row("relative L2, all images", _distance(report.rel_l2), "")
    table.add_row("relative L2, worst image", _distance(report.worst_rel_l2), "")
    return table


def _classes_table(worst: list[ClassCount]) -> Table:
    columns = ("class", "most often taken for", "times", "errors", "images")
    table = numbers_table("classes with most errors", columns, left=2)
    for one in worst:
        table.add_row(one.name, one.taken_for_name, str(one.times), str(one.errors), str(one.images))
    return table


def notes_from_eval(report: EvalReport) -> list[str]:
    """How folders became classes, which picture is the worst, and what agreement means for codes."""
    matched = "no folders of classes: only agreement" if report.matched is None else _MATCHED[report.matched]
    notes = [f"{matched}; worst image: {report.worst_image}; {threads_text(report.threads)}"]
    if report.codes and report.against is None:
        notes.append(
            "the reference has the bundle's codes: what they cost is told by --against, a bundle of the float32 network"
        )
    return notes


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _distance(distance: float) -> str:
    return f"{distance:.2e}" if isfinite(distance) else "not finite"
