"""`effgen tune` as a table, lines and JSON. Nothing is measured or decided here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from effgen.report.tables import numbers_table
from effgen.report.text import threads_text

if TYPE_CHECKING:
    from effgen.tuning.report import TunedKernel, TuneReport, Written
    from effgen.tuning.tuner import Progress

#: The decision that MetaSchedule's candidates have (`effgen.schedules.space.TRACE`, which needs TVM).
TRACE = "metaschedule"

#: Kernels in the table; the rest are one row.
SHOWN_KERNELS = 20

_COLUMNS = ("kernel", "calls", "measured", "of", "before us", "after us", "speedup", "saved us", "decisions")

_ENDS = {
    "trials": "the number of candidates asked for",
    "time": "the time asked for",
    "converged": "nothing left that is worth measuring",
    "interrupted": "interrupted",
    "round": "what came back from the machine",
}


def json_from_tune(report: TuneReport) -> dict[str, Any]:
    """`speedup`, then the fields of `TuneReport` and `TunedKernel`; times are seconds a call."""
    return {"speedup": _ratio(report.before_s, report.after_s), **asdict(report)}


def table_from_tune(report: TuneReport) -> Table:
    """One row a kernel, those first that save most in the network; then the sum of all calls."""
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
    before, after = f"{report.before_s * 1e6:.1f}", f"{report.after_s * 1e6:.1f}"
    saved, speedup = f"{(report.before_s - report.after_s) * 1e6:.1f}", _speedup(report.before_s, report.after_s)
    table.add_row("all calls", calls, str(report.trials), "", before, after, speedup, saved, "", style="bold")
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
    return lines


def _notes_from_written(written: Written) -> list[str]:
    what = f"{written.candidates} candidates of {written.kernels} kernels, {written.size / 1e6:.1f} MB"
    failed = f", {written.failed} more could not be built" if written.failed else ""
    return [
        f"written: {written.folder} ({what}{failed})",
        f"next: on the machine python3 run.py, here --offline-in results.jsonl (plan {written.plan[:12]})",
    ]


def warnings_from_tune(report: TuneReport) -> list[str]:
    """What is wrong: defaults that fail, lines of the database that are no records, other work on the machine."""
    lines = []
    failed = [kernel.name for kernel in report.kernels if kernel.default_failed]
    if failed:
        lines.append(f"the default schedule of {', '.join(failed)} gave no right result: see the records")
    if report.ignored_lines:
        found = f"{report.ignored_lines} lines are no records (torn by a kill, or foreign)"
        lines.append(f"{report.database}: {found}: passed over")
    engine = report.engine
    lines += [f"{name}: {engine.name} gave up: {reason}" for name, reason in sorted(engine.failures.items())]
    if engine.ranked_by == "random":
        lines.append("MetaSchedule drew candidates at random: pip install 'effgen[metaschedule]' for its cost model")
    if report.disturbed:
        lines.append(
            f"other processes kept {report.other_cpus:.1f} CPUs busy: what is close was decided by chance; "
            "tune again on a quiet machine, with --fresh"
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
    return f"{progress.phase} {progress.kernel} {decisions}: {outcome}{' (best)' if record.chosen else ''}"


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


def _ratio(before_s: float, after_s: float) -> float | None:
    return before_s / after_s if after_s else None


def _speedup(before_s: float, after_s: float) -> str:
    ratio = _ratio(before_s, after_s)
    return "" if ratio is None else f"{ratio:.2f}x"


def _time(seconds: float) -> str:
    """12.3 s, or minutes and seconds: 3:20."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
