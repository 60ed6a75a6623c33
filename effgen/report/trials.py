"""The trials of a search as a table and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from effgen.report.tables import numbers_table

if TYPE_CHECKING:
    from rich.table import Table

    from effgen.method.studies.trials import TrialRow

_COLUMNS = ("trial", "what", "state", "value", "seconds", "worker", "why")

#: Columns of text.
_LEFT = ("what", "state", "worker", "why")


def json_from_trials(study: str, rows: Sequence[TrialRow]) -> dict[str, Any]:
    """`study`, then `trials` with keys as the fields of `TrialRow`."""
    return {"study": study, "trials": [asdict(row) for row in rows]}


def table_from_trials(study: str, rows: Sequence[TrialRow]) -> Table:
    """One row a trial."""
    table = numbers_table(study, _COLUMNS, left=0, wrap=("why",))
    for column, name in zip(table.columns, _COLUMNS, strict=True):
        column.justify = "left" if name in _LEFT else "right"
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: TrialRow) -> Iterator[str]:
    yield str(row.number)
    yield row.item or "sampled"
    yield row.state
    yield "" if row.value is None else f"{row.value:.4f}"
    yield "" if row.seconds is None else f"{row.seconds:.1f}"
    yield row.worker or ""
    yield (row.error or row.reason or "its worker was lost") if row.state == "fail" else ""
