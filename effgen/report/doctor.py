"""What `effgen doctor` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from effgen.report.tables import _status, numbers_table

if TYPE_CHECKING:  # a command loads only what it reports on
    from effgen.judge.doctor import DoctorReport


def json_from_doctor(report: DoctorReport) -> dict[str, Any]:
    """`healthy`, then the fields of `DoctorReport`."""
    return {"healthy": report.healthy, **asdict(report)}


def table_from_doctor(report: DoctorReport) -> Table:
    """One row a check."""
    table = numbers_table(None, ("check", "", "found", "what to do"), left=4, wrap=("found", "what to do"))
    for check in report.checks:
        table.add_row(check.name, _status(check.status, check.status), Text(check.found), Text(check.fix))
    return table
