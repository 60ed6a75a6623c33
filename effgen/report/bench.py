"""What `effgen bench` prints: a table of backends, the plan, notes and warnings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from effgen.report.tables import numbers_table
from effgen.report.text import DOUBTFUL, bytes_text, milliseconds_text, threads_text
from effgen.results.reports import BenchReport
from effgen.results.rows import load_text

if TYPE_CHECKING:  # a command loads only what it reports on
    from effgen.machines.host import Host
    from effgen.results.reports import Report, Result

_RESULT_COLUMNS = (
    "backend", "median ms", "p25 ms", "p90 ms", "p99 ms", "min ms", "images/s", "calls", "vs effgen", "at p25",
    "memory", "version",
)  # fmt: skip

#: Of fewer calls the 99th percentile is the slowest one.
_CALLS_FOR_P99 = 100


def table_from_bench(report: BenchReport) -> Table:
    """One row a backend: effgen first, then the peers as asked for; those without a time say why."""
    table = numbers_table(title_from_report(report), _RESULT_COLUMNS, left=1)
    for result in report.results:
        style = "bold" if result is report.results[0] else None
        table.add_row(*_result_cells(result, report), style=style)
    return table


def title_from_report(report: Report) -> str:
    """What was measured, in a line."""
    model, load = report.model, report.load if isinstance(report, BenchReport) else 0
    return f"{model.name}, batch {model.batch}, {threads_text(report.threads)}, {model.dtype}{load_text(load)}"


def notes_from_bench(report: BenchReport) -> list[str]:
    """Backends without a time, the machine, and how it was measured."""
    left_out = [f"{item.backend}: {item.reason}" for item in report.left_out]
    other = "" if report.other_cpus is None else f", {report.other_cpus:.2f} CPUs of other work meanwhile"
    return [*left_out, host_line(report.machine), plan_line(report) + other]


def plan_line(report: BenchReport) -> str:
    """How it was measured, in a line; empty where that was not kept."""
    if report.plan is None:
        return ""
    rounds, seconds = report.plan.rounds, report.plan.min_time_s
    if report.origin.route == "rpc":
        distance = report.results[0].rel_l2 or 0.0
        return f"{rounds} rounds, {seconds:g} s over RPC by the device's clock, relative L2 {distance:.1e}"
    return f"{rounds} interleaved rounds, {seconds:g} s of timed calls a backend"


def warning_from_bench(report: BenchReport) -> str:
    """What makes the times doubtful; empty where nothing does."""
    if not report.disturbed:
        return ""
    return (
        f"other processes kept {report.other_cpus:.1f} CPUs busy: times are inflated, those of peers perhaps more, "
        f"and ratios ({DOUBTFUL}) may be off"
    )


def _result_cells(result: Result, report: BenchReport) -> Iterable[str]:
    p99_ms = result.p99_ms if (result.calls or 0) >= _CALLS_FOR_P99 else None
    times = (result.median_ms, result.p25_ms, result.p90_ms, p99_ms, result.min_ms)
    memory = "" if result.memory_bytes is None else bytes_text(result.memory_bytes)
    yield from (result.backend, *map(milliseconds_text, times), f"{result.images_per_second:.1f}")
    yield from (str(result.calls or ""), *_ratios(result, report), memory, result.version or "")


def _ratios(result: Result, report: BenchReport) -> Iterable[str]:
    """Of medians and of lower quartiles, over effgen's."""
    mark, ours = DOUBTFUL if report.disturbed else "", report.results[0].p25_ms
    yield f"{result.ratio:.2f}x{mark}"
    yield f"{result.p25_ms / ours:.2f}x{mark}" if result.p25_ms and ours else ""


def host_line(host: Host) -> str:
    """The machine in a line, as far as it is known."""
    busy = "" if host.busy_cpus is None else f" ({host.busy_cpus:.1f} CPUs of other work before the start)"
    parts = (
        f"{host.cpu}{' (virtual)' if host.virtual else ''}",
        f"{len(host.cpus)} of {host.logical_cpus} CPUs" if host.logical_cpus else "",
        " ".join(f"{level} {bytes_text(size)}" for level, size in host.caches.items()),
        host.system,
        f"load average {host.load_average[0]:.2f}{busy}" if host.load_average else "",
    )
    return ", ".join(part for part in parts if part)
