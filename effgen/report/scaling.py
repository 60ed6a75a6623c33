"""`effgen search scaling` as a table, lines and JSON. Nothing is measured or decided here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from effgen.report.tables import numbers_table
from effgen.report.text import milliseconds_text, threads_text, training_threads_text

if TYPE_CHECKING:
    from rich.table import Table

    from effgen.method.studies.grid import Grid
    from effgen.method.studies.samples import Sample, Verdict
    from effgen.method.studies.scaling_report import AgainstSingle, ScaledRow, ScalingReport
    from effgen.method.studies.workers import Settled

_COLUMNS = (
    "scaled", "depth", "width", "pixels", "multiply-adds", "of goal", "parameters", "ms", "accuracy %", "+-", "n",
    "confirmed %", "+-", "n",
)  # fmt: skip

#: Single dimensions whose multiply-adds are further from the goal are said to be.
_NOTEWORTHY = 0.05


def json_from_scaling(report: ScalingReport) -> dict[str, Any]:
    """Keys as the fields of `ScalingReport`; accuracies are shares, 0..1."""
    return asdict(report)


def lines_from_grid(grid: Grid, trainings: int) -> list[str]:
    """What is about to be trained."""
    compound = sum(candidate.kind == "compound" for candidate in grid.candidates)
    return [
        f"{grid.unscaled.network.spec.name}: {grid.unscaled.macs:,} multiply-adds, scaled to {grid.goal:,.0f} "
        f"(2^{grid.phi:g} times)",
        f"{compound} compound networks, {len(grid.candidates) - compound} of one dimension, the baseline: "
        f"{trainings} trainings",
    ]


def details_from_grid(grid: Grid) -> list[str]:
    """Points of the grid that are no candidates."""
    return [f"left out: {'/'.join(f'{value:.4g}' for value in item.nominal)}: {item.reason}" for item in grid.left_out]


def line_from_settled(settled: Settled) -> str:
    """A training that came to its end."""
    trial, attributes = settled.trial, settled.trial.user_attrs
    if trial.value is None:
        end = f"failed: {attributes.get('error', 'its workers were lost')}"
    else:
        seconds = f" in {attributes['seconds']:.1f} s" if "seconds" in attributes else ""
        end = f"{trial.value:.2%}{seconds} by {attributes.get('worker', 'another tool')}"
    return f"{settled.done} of {settled.planned}  {attributes.get('item', f'trial {trial.number}')}: {end}"


def table_from_scaling(report: ScalingReport) -> Table:
    """One row a way to scale, the baseline below; the chosen one is bold."""
    title = f"{report.model}, phi {report.phi:g}, {report.goal:,.0f} multiply-adds"
    table = numbers_table(title, _COLUMNS, left=1)
    for row in report.rows:
        table.add_row(*_cells(row), style="bold" if row == report.chosen else None)
    table.add_section()
    table.add_row(*_cells(report.baseline))
    return table


def _cells(row: ScaledRow) -> Iterable[str]:
    costs = (f"{row.macs:,}", f"{row.macs_share:.2f}", f"{row.parameters:,}", milliseconds_text(row.latency_ms))
    scaled = (f"{row.depth:.4g}", f"{row.width:.4g}", str(row.resolution))
    return (row.kind, *scaled, *costs, *_sample_cells(row.search), *_sample_cells(row.confirmed))


def _sample_cells(sample: Sample | None) -> tuple[str, str, str]:
    if sample is None:
        return ("", "", "")
    spread = "" if sample.spread is None else f"{100 * sample.spread:.2f}"
    return (f"{100 * sample.mean:.2f}", spread, str(len(sample.values)))


def notes_from_scaling(report: ScalingReport) -> list[str]:
    """How compound compares with each single dimension, and what that rests on."""
    chosen = report.chosen
    return [
        *(_sentence(report, single) for single in report.against),
        _basis(report),
        *_timed(report),
        *filter(None, [training_threads_text(report.training_threads)]),
        f"chosen: alpha {chosen.alpha:g}, beta {chosen.beta:g}, gamma {chosen.gamma:g}: {_name(chosen)}",
        f"trials: {report.study}",
    ]


def _sentence(report: ScalingReport, single: AgainstSingle) -> str:
    found = single.comparison
    if found is None:
        return f"compound is not compared with {single.kind} alone: {single.missing}"
    best = report.compound
    assert best is not None
    return (
        f"compound ({best.depth:.4g}, {best.width:.4g}, {best.resolution} pixels) {found.outcome} {single.kind} alone: "
        f"{100 * found.difference:+.2f} points, {_interval(found)}{_cost(single)}"
    )


def _interval(found: Verdict) -> str:
    if found.low is None or found.high is None:
        return "of one seed, or of seeds that all agree, so it may be luck"
    return f"for all we know {100 * found.low:+.2f} to {100 * found.high:+.2f}"


def _cost(single: AgainstSingle) -> str:
    share = single.macs_share
    if share is None or abs(share - 1) <= _NOTEWORTHY:
        return ""
    return f"; {single.kind} alone has {share:.2f} of the multiply-adds asked for"


def _basis(report: ScalingReport) -> str:
    seeds = f"{report.seeds} seed{'s' if report.seeds > 1 else ''}"
    judged = "" if report.pictures is None else f", {report.pictures:,} pictures"
    rule = f"told apart: by Welch's t-test, one wrong verdict in 20 searches{judged}; +- is the spread of one seed"
    if not report.confirm_seeds:
        return f"compared by the {seeds} that picked the best of {len(report.rows)}, which favours it; {rule}"
    others = f"{report.confirm_seeds} other{'s' if report.confirm_seeds > 1 else ''}"
    return f"picked by {seeds}, compared by {others} on the same pictures; {rule}"


def _timed(report: ScalingReport) -> list[str]:
    if not report.machine:
        return []
    return [f"ms: one image, {threads_text(report.threads)}, {report.machine}, measured {report.measured}"]


def _name(row: ScaledRow) -> str:
    return "compound" if row.kind == "compound" else f"{row.kind} alone"


def warning_from_scaling(report: ScalingReport) -> str:
    """Trainings that are missing from the table; empty where none is."""
    failed = sum(row.failed for row in (report.baseline, *report.rows))
    if not failed:
        return ""
    first, *rest = report.errors
    more = f" (and {len(rest)} more reasons)" if rest else ""
    return f"{failed} trainings failed and are missing from the means: {first}{more}"
