"""What `effgen bench --streams` prints: a table of images a second, and how they came about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from effgen.report.bench import host_line
from effgen.report.tables import numbers_table
from effgen.report.text import DOUBTFUL, bytes_text, streams_text, threads_text
from effgen.results.rows import load_text

if TYPE_CHECKING:
    from effgen.results.reports import StreamsReport, StreamsResult

_COLUMNS = ("backend", "runs as", "images/s", "p25", "best", "vs effgen", "at p25", "memory", "version")


def table_from_streams(report: StreamsReport) -> Table:
    """One row a backend, effgen first."""
    model = report.model
    count = f"{streams_text(report.streams)} of {threads_text(report.threads)}"
    title = f"{model.name}, batch {model.batch}, {count}, {model.dtype}{load_text(report.plan.load)}"
    table = numbers_table(title, _COLUMNS, left=2)
    for result in report.results:
        table.add_row(*_cells(result, report), style="bold" if result is report.results[0] else None)
    return table


def notes_from_streams(report: StreamsReport) -> list[str]:
    """Backends without a number, the machine, and how it was measured."""
    left_out = [f"{item.backend}: {item.reason}" for item in report.left_out]
    shares = "; ".join(",".join(map(str, cpus)) for cpus in report.cpus)
    other = "" if report.other_cpus is None else f", {report.other_cpus:.2f} CPUs of other work meanwhile"
    plan = report.plan
    how = f"{plan.rounds} interleaved bursts, {plan.min_time_s:g} s of each backend; CPUs of the streams: {shares}"
    return [*left_out, host_line(report.machine), how + other]


def warning_from_streams(report: StreamsReport) -> str:
    """What makes the numbers doubtful; empty where nothing does."""
    if not report.disturbed:
        return ""
    return f"other processes kept {report.other_cpus:.1f} CPUs busy: ratios ({DOUBTFUL}) may be off"


def _cells(result: StreamsResult, report: StreamsReport) -> Iterable[str]:
    processes = f"{result.processes} process{'' if result.processes == 1 else 'es'} of {threads_text(result.threads)}"
    streams = "" if result.streams is None else f", {streams_text(result.streams)}"
    yield from (result.backend, processes + streams)
    yield from (f"{rate:.1f}" for rate in (result.median, result.p25, result.best))
    mark = DOUBTFUL if report.disturbed else ""
    yield from (f"{result.ratio:.2f}x{mark}", f"{report.results[0].p25 / result.p25:.2f}x{mark}")
    yield from ("" if result.memory_bytes is None else bytes_text(result.memory_bytes), result.version)
