"""One dimension against all as tables, notes and JSON. Nothing is measured or decided here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from effgen.report.bench import host_line
from effgen.report.tables import numbers_table
from effgen.report.text import milliseconds_text, threads_text

if TYPE_CHECKING:
    from rich.table import Table

    from effgen.method.budget.dimensions import Circumstances, DimensionRow, DimensionsReport, DimensionTable
    from effgen.method.budget.paper_tables import Published

#: Version of the form of `effgen dimensions --json`.
FORMAT = 1

#: From this share on, multiply-adds that are not the published or the wanted ones are worth a note.
NOTEWORTHY = 0.05

#: The paper prints multiply-adds to a tenth of a billion.
_PRINTED = 0.1e9

_COUNT_COLUMNS = ("network", "scaled by", "depth", "width", "pixels", "parameters", "MACs", "x MACs")
_PAPER_COLUMNS = ("paper FLOPS", "x paper", "top-1")
_LATENCY_COLUMNS = ("median ms", "p10 ms", "p90 ms", "x latency")


def tables_from_dimensions(report: DimensionsReport) -> list[Table]:
    """A table for each comparison, a baseline in bold above what was made of it."""
    return [_table(table, report.measured) for table in report.tables]


def _table(table: DimensionTable, measured: Circumstances | None) -> Table:
    published = any(row.published for row in table.rows)
    columns = (
        *_COUNT_COLUMNS,
        *(_PAPER_COLUMNS if published else ()),
        *(_LATENCY_COLUMNS if measured is not None else ()),
    )
    drawn = numbers_table(table.title, columns, left=2)
    for index, row in enumerate(table.rows):
        if row.dimension == "baseline" and index:
            drawn.add_section()
        cells = (*_counts(row), *(_paper(row) if published else ()), *_latency(row))
        drawn.add_row(*cells, style="bold" if row.dimension == "baseline" else None)
    return drawn


def _counts(row: DimensionRow) -> Iterable[str]:
    """A multiplier that is given to `inspect` stands there in full; where phi is, the others need not."""
    scaled_by = row.dimension if row.phi is None else f"{row.dimension}, phi {row.phi:.7g}"
    digits = 7 if row.phi is None else 4
    multipliers = (f"{value:.{digits}g}" for value in (row.depth, row.width))
    return (
        row.family,
        scaled_by,
        *multipliers,
        str(row.resolution),
        f"{row.parameters:,}",
        f"{row.macs:,}",
        f"{row.macs_ratio:.2f}",
    )


def _paper(row: DimensionRow) -> Iterable[str]:
    if row.published is None or row.published_ratio is None:
        return ("", "", "")
    return (_billions(row.published.macs), f"{row.published_ratio:.2f}", f"{row.published.top1:.1f}%")


def _latency(row: DimensionRow) -> Iterable[str]:
    if row.latency is None:
        return ()
    times = (row.latency.median_ms, row.latency.p10_ms, row.latency.p90_ms)
    return (*map(milliseconds_text, times), f"{row.latency.ratio:.2f}")


def _billions(macs: float) -> str:
    """As the paper prints it: 1.8B."""
    return f"{macs / 1e9:.1f}B"


def notes_from_dimensions(report: DimensionsReport) -> list[str]:
    """What the columns mean, where the counts are not what the paper prints or what was asked for, and the machine."""
    notes = ["MACs: multiply-adds of convolutions and classifier, for one image; x: over the family's baseline"]
    if any(row.published for table in report.tables for row in table.rows):
        notes.append(
            "paper: arXiv 1905.11946 as printed (its FLOPS are multiply-adds, top-1 on ImageNet); x paper: MACs over it"
        )
    for table in report.tables:
        notes += [line for row in table.rows for line in _row_notes(row, table.factor)]
    return [*notes, *_measured_lines(report.measured)]


def _row_notes(row: DimensionRow, factor: float | None) -> list[str]:
    name = f"{row.family} {row.dimension}"
    lines = [f"{name}: {row.note}"] if row.note else []
    if row.published is not None and not _as_printed(row, row.published):
        off = f"{row.macs / row.published.macs - 1:+.0%}"
        lines.append(f"{name}: {row.macs / 1e9:.2f}B MACs, the paper prints {_billions(row.published.macs)} ({off})")
    if factor is not None and row.dimension != "baseline" and _is_off(row.macs_ratio / factor):
        lines.append(f"{name}: {row.macs_ratio:.2f} times the MACs is its step nearest to {factor:g}")
    return lines


def _as_printed(row: DimensionRow, published: Published) -> bool:
    """Within what the paper's rounding leaves open, or nearly."""
    return abs(row.macs - published.macs) <= _PRINTED / 2 or not _is_off(row.macs / published.macs)


def _is_off(ratio: float) -> bool:
    return abs(ratio - 1) > NOTEWORTHY


def _measured_lines(measured: Circumstances | None) -> list[str]:
    if measured is None:
        return []
    plan = measured.plan
    other = "" if measured.other_cpus is None else f", at most {measured.other_cpus:.2f} CPUs of other work meanwhile"
    return [
        host_line(measured.machine),
        f"target {measured.target}, {threads_text(measured.threads)}, batch 1; {plan.rounds} rounds in turns of a "
        f"family's networks, {plan.min_time_s:g} s of timed calls each{other}",
    ]


def warning_from_dimensions(report: DimensionsReport) -> str:
    """What makes the times doubtful; empty where nothing does."""
    measured = report.measured
    if measured is None or not measured.disturbed:
        return ""
    return f"other processes kept {measured.other_cpus:.1f} CPUs busy: times are inflated, compare ratios only"


def json_from_dimensions(report: DimensionsReport) -> dict[str, Any]:
    """`format`, `kind`, then keys as the fields of `DimensionsReport` and `DimensionRow`."""
    return {"format": FORMAT, "kind": "dimensions", **asdict(report)}
