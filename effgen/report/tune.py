"""`effgen tune` as a table, lines and JSON. Nothing is measured or decided here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from effgen.report.tables import numbers_table
from effgen.report.text import threads_text

if TYPE_CHECKING:
    from effgen.tuning.report import NetworkTimes, TunedKernel, TuneReport, Written
    from effgen.tuning.tuner import Progress

#: The decision that MetaSchedule's candidates have (`effgen.schedules.space.TRACE`, which needs TVM).
TRACE = "metaschedule"

#: Kernels in the table; the rest are one row.
SHOWN_KERNELS = 20

_COLUMNS = ("kernel", "calls", "measured", "of", "before us", "after us", "speedup", "saved us", "decisions")

#: What the last row is called, by where the old and the new were compared.
_WHOLE = {"network": "the network", "loop": "all calls"}

_ENDS = {
    "trials": "the number of candidates asked for",
    "time": "the time asked for",
    "converged": "nothing left that is worth measuring",
    "interrupted": "interrupted",
    "round": "what came back from the machine",
}


def json_from_tune(report: TuneReport) -> dict[str, Any]:
    """`speedup`, then the fields of `TuneReport` and `TunedKernel`; times are seconds a call."""
    return {"speedup": report.speedup, **asdict(report)}


def table_from_tune(report: TuneReport) -> Table:
    """One row a kernel, those first that save most in the network; then the network, or the sum of all calls."""
    title = f"{report.model} on {report.machine}, {threads_text(report.threads)}: a call of each kernel"
    table = numbers_table(title, _COLUMNS, left=1)
    table.columns[-1].justify = "left"
    ranked = sorted(report.kernels, key=lambda kernel: (-_saved_s(kernel), -_total_s(kernel)))
    for kernel in ranked[:SHOWN_KERNELS]:
        table.add_row(*_cells(kernel))
    rest = ranked[SHOWN_KERNELS:]
    if rest:
        measured, points = (str(sum(getattr(kernel, name) for kernel in rest)) for name in ("measured", "points"))
        saved = f"{sum(map(_saved_s, rest)) * 1e6:.1f}"
        calls = str(sum(kernel.calls for kernel in rest))
        table.add_row(f"{len(rest)} more", calls, measured, points, "", "", "", saved, "")
    table.add_section()
    calls = str(sum(kernel.calls for kernel in report.kernels))
    name = _WHOLE["loop" if report.network is None else "network"]
    before, after = f"{report.before_s * 1e6:.1f}", f"{report.after_s * 1e6:.1f}"
    saved = f"{(report.before_s - report.after_s) * 1e6:.1f}"
    speedup = "" if report.speedup is None else f"{report.speedup:.2f}x"
    table.add_row(name, calls, str(report.trials), "", before, after, speedup, saved, "", style="bold")
    return table


def notes_from_tune(report: TuneReport) -> list[str]:
    """What was measured, what came of it, and what was not tuned."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(report.outcomes.items()))
    known = f", {report.resumed} known from before" if report.resumed else ""
    measured = report.trials and report.seconds and report.route != "offline"  # there, it is the time of reading
    rate = f", {report.trials / report.seconds * 60:.0f} a minute" if measured else ""
    lines = [f"{report.trials} candidates measured ({counts or 'none'}){known} in {_time(report.seconds)}{rate}"]
    devices = f" on {', '.join(report.devices)}" if report.devices else ""
    lines += [f"searched by {report.engine.name}"] if report.engine.name != "effgen" else []
    lines += [f"ended: {_ENDS[report.end]}", f"measured by route {report.route}{devices}"]
    lines += [f"records: {report.database}"]
    if report.untuned:
        names = ", ".join(report.untuned[:3]) + (", ..." if len(report.untuned) > 3 else "")
        what = "schedule space" if report.engine.name == "effgen" else "plain definition"
        lines.append(f"{len(report.untuned)} kernels have no {what} and keep their schedule: {names}")
    if report.written is not None:
        lines += _notes_from_written(report.written)
    if report.promoted is not None:
        lines.append(f"{report.promoted} shipped records are new or better")
    if report.written is None or report.trials:  # there is nothing to judge before a first round
        lines.append(verdict_from_tune(report))
    return lines


def verdict_from_tune(report: TuneReport) -> str:
    """What the run changes, and why; for people what `said` and `speedup` are for programs."""
    waiting = f"; {report.waiting} kernels have a faster one in its loop, which another run compares" * (
        report.waiting > 0
    )
    if report.said == "better":
        return f"{report.replaced} of {len(report.kernels)} kernels get new records: {_gain(report)}{waiting}"
    if report.replaced:
        return f"{report.replaced} kernels gave no right result and get new records; the others: {_why_not(report)}"
    return f"all records stay as they were: {_why_not(report)}{waiting}"


def _gain(report: TuneReport) -> str:
    """By how much, and how that was found."""
    speedup = "" if report.speedup is None else f"{report.speedup:.3f}x"
    if report.network is None:
        return f"their calls {speedup} in loops of their own, not compared inside the network: see effgen bench"
    low, high = (1 / ratio for ratio in reversed(report.network.ratio_quartiles))
    times = f"{report.network.old_s * 1e3:.3f} -> {report.network.new_s * 1e3:.3f} ms"
    return f"the network {times}, {speedup} ({_rounds(report.network)}, quartiles {low:.3f} to {high:.3f})"


def _rounds(network: NetworkTimes) -> str:
    return f"faster in {network.wins} of {network.rounds} rounds"


def _why_not(report: TuneReport) -> str:
    match report.said:
        case "disturbed":
            return (
                f"other processes kept {report.disturbed_by:.1f} CPUs busy while old and new were compared, which then "
                "says nothing; tune again on a quiet machine: what is known is not measured again"
            )
        case "equal" if report.network is not None:
            return f"with new ones the network is not faster beyond the noise ({_rounds(report.network)})"
        case "equal":
            return "inside the network no new one is faster beyond the noise"
        case "interrupted":
            return "interrupted before old and new were compared"
        case "failed":
            return f"old and new could not be compared: {report.problem}"
        case _:
            return "nothing better was found"


def _notes_from_written(written: Written) -> list[str]:
    what = f"{written.candidates} candidates of {written.kernels} kernels, {written.size / 1e6:.1f} MB"
    failed = f", {written.failed} more could not be built" if written.failed else ""
    return [
        f"written: {written.folder} ({what}{failed})",
        f"next: on the machine python3 run.py, here --offline-in results.jsonl (plan {written.plan[:12]})",
    ]


def warnings_from_tune(report: TuneReport) -> list[str]:
    """What is wrong: kernels that fail as they are compiled, lines of the database that are no records, other work on
    the machine, a network that cannot be compared."""
    lines = []
    failed = [kernel.name for kernel in report.kernels if kernel.broken]
    if failed:
        lines.append(f"{', '.join(failed)} gave no right result as it is compiled today: see the records")
    if report.problem and report.judged == "loop":
        lines.append(f"kernels were judged in loops of their own, the network cannot be compiled: {report.problem}")
    if report.ignored_lines:
        found = f"{report.ignored_lines} lines are no records (torn by a kill, or foreign)"
        lines.append(f"{report.database}: {found}: passed over")
    engine = report.engine
    lines += [f"{name}: {engine.name} gave up: {reason}" for name, reason in sorted(engine.failures.items())]
    if engine.ranked_by == "random":
        lines.append("MetaSchedule drew candidates at random: pip install 'effgen[metaschedule]' for its cost model")
    if report.disturbed:
        lines.append(
            f"other processes kept {report.other_cpus:.1f} CPUs busy while candidates were measured: what is close was "
            "decided by chance"
        )
    return lines


def note_from_progress(progress: Progress) -> str:
    """Candidates done, time left, and the estimated latency of all kernels so far."""
    left = "" if progress.left_s is None else f", {_time(progress.left_s)} left"
    done = f"{progress.trials} candidates in {_time(progress.elapsed_s)}{left}"
    if progress.started < progress.kernels:
        return f"{done}, {progress.started} of {progress.kernels} kernels, {progress.before_s * 1e3:.3f} ms so far"
    return f"{done}, kernels {progress.before_s * 1e3:.3f} -> {progress.latency_s * 1e3:.3f} ms"


def line_from_progress(progress: Progress) -> str:
    """One candidate: status or time, decisions, and whether it is the best now."""
    record = progress.record
    outcome = f"{record.seconds * 1e6:.1f} us" if record.seconds else f"{record.status}: {record.error}"
    decisions = _decisions(record.decisions)
    return f"{progress.phase} {progress.kernel} {decisions}: {outcome}{' (best)' if record.leads else ''}"


def _cells(kernel: TunedKernel) -> tuple[str, ...]:
    before, after = kernel.before_s, kernel.after_s
    times = ("", "", "", "") if before is None or after is None else (
        f"{before * 1e6:.1f}",
        f"{after * 1e6:.1f}",
        _speedup(before, after),
        f"{_saved_s(kernel) * 1e6:.1f}",
    )  # fmt: skip
    counts = (str(kernel.calls), str(kernel.measured), str(kernel.points))
    return (kernel.name, *counts, *times, _decisions(kernel.decisions))


def _decisions(decisions: Any) -> str:
    """All of them, but for a trace's tiles: two dozen numbers."""
    if TRACE in decisions:
        return f"{TRACE} sketch={decisions['sketch']}"
    return " ".join(f"{name}={value}" for name, value in decisions.items())


def _saved_s(kernel: TunedKernel) -> float:
    """Seconds that all its calls save in one inference."""
    return kernel.calls * ((kernel.before_s or 0.0) - (kernel.after_s or 0.0))


def _total_s(kernel: TunedKernel) -> float:
    return kernel.calls * (kernel.after_s or 0.0)


def _speedup(before_s: float, after_s: float) -> str:
    return f"{before_s / after_s:.2f}x" if after_s else ""


def _time(seconds: float) -> str:
    """12.3 s, or minutes and seconds: 3:20."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
