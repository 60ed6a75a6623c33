"""A baseline search as tables, notes and JSON. Nothing is decided here."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from rich.table import Table

from effgen.method.studies.front import MARGIN, BaselineReport, Beside, Member, TriedNetwork
from effgen.network.spec import StageSpec
from effgen.report.tables import numbers_table
from effgen.report.text import count_text, milliseconds_text, percent_text, threads_text, training_threads_text

if TYPE_CHECKING:
    from effgen.method.studies.baseline_search import BaselineSearch
    from effgen.method.studies.workers import Settled

#: Version of the form of `effgen search baseline --json`.
FORMAT = 1

#: Of `member_cells`.
MEMBER_COLUMNS = (
    "network", "accuracy", "+-", "latency ms", "p10 ms", "p90 ms", "MACs", "parameters", "gain", "+-", "latency", "",
)  # fmt: skip


def lines_from_search(search: BaselineSearch) -> list[str]:
    """What is about to be searched."""
    plan, space = search.request.plan, search.space
    target = milliseconds_text(search.latency_target_s() * 1e3)
    return [
        f"{space.start.name}: {len(space.choices)} decisions, {space.size:.3g} points around it",
        f"{plan.trials} trials by {plan.sampler}, pruner {plan.pruner}, "
        f"reward accuracy x (latency / {target} ms)^{plan.exponent:g}",
    ]


def line_from_trial(settled: Settled) -> str:
    """A network that was tried."""
    trial, found = settled.trial, settled.trial.user_attrs
    words = [percent_text(found.get("accuracy")), f"{milliseconds_text(_ms(found.get('latency_s')))} ms"]
    if trial.state.name == "FAIL":
        words = [f"failed: {found.get('error', '')}"]
    elif trial.value is not None and trial.state.name == "COMPLETE":
        words.append(f"reward {trial.value:.4f}")
    else:
        words.append(f"pruned after epoch {found.get('epochs')}")
    return f"{settled.done} of {settled.planned}  trial {trial.number}: {', '.join(words)}"


def line_from_confirmation(settled: Settled) -> str:
    """A network that was trained again."""
    trial = settled.trial
    end = f"failed: {trial.user_attrs.get('error', '')}" if trial.value is None else percent_text(trial.value)
    return f"{settled.done} of {settled.planned}  {trial.user_attrs.get('item')}: {end}"


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def table_from_search(report: BaselineReport) -> Table:
    """The starting network, then the front, the fastest first."""
    table = numbers_table(title_from_search(report), MEMBER_COLUMNS, left=1, wrap=("",))
    table.columns[-1].justify = "left"
    table.add_row(*member_cells(report.start, report))
    table.add_section()
    for member in report.found:
        style = "bold" if report.beside_start(member).beyond_spread else None
        table.add_row(*member_cells(member, report), style=style)
    return table


def title_from_search(report: BaselineReport) -> str:
    """What was searched, and where."""
    spec = report.start.candidate.spec
    return (
        f"the front of {len(report.candidates)} networks around {spec.name} on {report.device}, "
        f"{threads_text(report.threads)}"
    )


def table_of_stages(report: BaselineReport) -> Table:
    """The stages of each network of the front."""
    table = numbers_table(None, ("network", "stages"), left=2, wrap=("stages",))
    for member in (report.start, *report.found):
        table.add_row(name_text(member, report), "  ".join(map(stage_text, member.candidate.spec.stages)))
    return table


def tables_from_search(report: BaselineReport) -> list[Table]:
    """The front, and what its networks are."""
    return [table_from_search(report), table_of_stages(report)]


def member_cells(member: Member, report: BaselineReport) -> tuple[str, ...]:
    """A member's cells, in the order of `MEMBER_COLUMNS`."""
    found, timing = member.candidate, member.timing
    by, judged = None if report.is_start(member) else report.beside_start(member), report.judged(member)
    return (
        name_text(member, report),
        percent_text(None if judged is None else judged.mean),
        percent_text(None if judged is None else judged.spread),
        milliseconds_text(member.latency_ms),
        milliseconds_text(None if timing is None else timing.p10_ms),
        milliseconds_text(None if timing is None else timing.p90_ms),
        count_text(found.macs),
        count_text(found.parameters),
        "" if by is None or by.gain is None else f"{by.gain * 100:+.2f}%",
        percent_text(None if by is None else by.error),
        "" if by is None else f"{by.ratio:.2f}x",
        verdict_text(by),
    )


def name_text(member: Member, report: BaselineReport) -> str:
    """A member's name; the starting network's says that it is that."""
    return f"{member.candidate.name} (start)" if report.is_start(member) else member.candidate.name


def verdict_text(by: Beside | None) -> str:
    """How a member stands to the starting network, luck aside; None is that network itself."""
    if by is None:
        return ""
    if by.beyond_spread:
        return "dominates"
    words = f"{by.speed}, {by.accuracy}"
    return f"dominates by the means: {words}" if by.dominates else words


def stage_text(stage: StageSpec) -> str:
    """A stage in short: layers, kind, kernel, stride, expansion, channels, e.g. `2 mbconv k5 s2 e6 c24 se0.25`."""
    parts = [f"{stage.repeats} {stage.block} k{stage.kernel}", f"s{stage.stride}" if stage.stride != 1 else ""]
    parts += [f"e{stage.expand_ratio:g}" if stage.expand_ratio != 1 else "", f"c{stage.channels}"]
    parts += ["" if stage.squeeze_excite is None else f"se{stage.squeeze_excite.ratio:g}"]
    parts += ["" if stage.skip else "no skip"]
    return " ".join(part for part in parts if part)


def notes_from_search(report: BaselineReport) -> list[str]:
    """What was found, how the numbers were come by, and what is not to be read into them."""
    lines = [_found_line(report), _trials_line(report), _goal_line(report), *_confirmation_lines(report), report.study]
    return [*lines, *filter(None, [training_threads_text(report.training_threads)])]


def _found_line(report: BaselineReport) -> str:
    better = [member for member in report.found if report.beside_start(member).dominates]
    if not better:
        return f"no network of the front dominates {report.start.candidate.name}"
    clear = sum(report.beside_start(member).beyond_spread for member in better)
    networks = "1 network dominates" if len(better) == 1 else f"{len(better)} networks dominate"
    return f"{networks} {report.start.candidate.name} by the means, {clear} of them beyond luck"


def _trials_line(report: BaselineReport) -> str:
    states = Counter(candidate.state for candidate in report.candidates)
    counts = ", ".join(f"{states[state]} {state}" for state in ("done", "pruned", "failed") if states[state])
    again = f"; {report.repeated} drawn again, left out" if report.repeated else ""
    return (
        f"{len(report.candidates)} trials ({counts}){again}; "
        f"{report.points:.3g} points in the space, sampler {report.sampler}, pruner {report.pruner}"
    )


def _goal_line(report: BaselineReport) -> str:
    shares = [each.measured_share for each in report.candidates if each.measured_share is not None]
    target = milliseconds_text(report.latency_target_s * 1e3)
    return (
        f"reward: accuracy x (latency / {target} ms)^{report.exponent:g}; "
        f"the search's latencies are sums over kernels, {min(shares, default=0):.0%} measured at the least"
    )


def _confirmation_lines(report: BaselineReport) -> list[str]:
    lines = []
    if report.is_confirmed:
        count = report.confirm_seeds
        trainings = f"{count} training{'' if count == 1 else 's'}"
        lines.append(
            f"accuracy: mean of {trainings} with seeds that the search did not use, judged by the same pictures; "
            "+- their standard deviation; gain over the start, +- its standard error"
        )
    else:
        lines.append("accuracy: of the one training that the network was chosen by, so flattered; see --confirm-seeds")
    if report.start.timing is not None:
        lines.append("latency: compiled, and measured in turn in one run")
    else:
        lines.append("latency: predicted, not confirmed")
    return [*lines, _luck_line(report), *_lost_lines(report)]


def _luck_line(report: BaselineReport) -> str:
    judged = "" if report.pictures is None else f" of {report.pictures:,} pictures"
    return (
        f"beyond luck: more accurate by Welch's t-test{judged}, one wrong verdict in 20 searches, or p90 below the "
        f"start's p10; and in the other no worse, by {100 * MARGIN:g} points at the most or in median and p90"
    )


def _lost_lines(report: BaselineReport) -> list[str]:
    start = report.start
    lost = [member for member in report.members if member.error and not report.is_start(member)]
    lines = [f"{member.candidate.name}: left out: {member.error}" for member in lost]
    if not start.error:
        return lines
    left = "no accuracy is compared with it" if start.confirmed is None else f"{len(start.confirmed.values)} are left"
    return [f"{start.candidate.name}: a confirming training failed, {left}: {start.error}", *lines]


def json_from_search(report: BaselineReport) -> dict[str, Any]:
    """The report's fields; members with `accuracy`, `spread`, `latency_ms` and how they stand `beside` the start."""
    plain = {field.name: getattr(report, field.name) for field in fields(report)}
    return {
        "format": FORMAT,
        "kind": "baseline search",
        **plain,
        "candidates": [_candidate_json(candidate) for candidate in report.candidates],
        "start": _member_json(report.start, report),
        "members": [_member_json(member, report) for member in report.members],
        "front": [_member_json(member, report) for member in report.front],
    }


def _member_json(member: Member, report: BaselineReport) -> dict[str, Any]:
    return {
        "candidate": _candidate_json(member.candidate),
        "confirmed": member.confirmed is not None,
        "accuracies": list(member.sample.values),
        "accuracy": member.accuracy,
        "spread": member.sample.spread,
        "latency_ms": member.latency_ms,
        "timing": None if member.timing is None else asdict(member.timing),
        "beside": asdict(report.beside_start(member)),
    }


def _candidate_json(candidate: TriedNetwork) -> dict[str, Any]:
    plain = {field.name: getattr(candidate, field.name) for field in fields(candidate)}
    return {**plain, "spec": candidate.spec.model_dump(mode="json")}
