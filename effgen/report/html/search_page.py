"""A baseline search as one self-contained HTML page: what its text and tables say."""

from __future__ import annotations

from collections.abc import Iterable

from effgen.method.studies.front import BaselineReport, Member, TriedNetwork
from effgen.report.html.document import Cell, Column, PageRow, document, number_cell, time_cell, word_cell
from effgen.report.search import (
    MEMBER_COLUMNS,
    member_cells,
    name_text,
    notes_from_search,
    title_from_search,
    verdict_text,
)
from effgen.report.text import count_text, percent_text, threads_text, training_threads_text


def page_from_search(report: BaselineReport) -> str:
    """The page's text, about 5 MB of which all but a little is plotly.js."""
    from effgen.report.html.search_figures import charts_from_search

    shown = (report.start, *report.found)
    return document(
        "search.html",
        charts_from_search(report),
        summary=title_from_search(report),
        headlines=_headlines(report),
        doubts=(),
        members=(_MEMBER_COLUMNS, [_member_line(member, report) for member in shown]),
        notes=notes_from_search(report),
        stages=(_STAGE_COLUMNS, [line for member in shown for line in _stage_lines(member, report)]),
        trials=(_TRIAL_COLUMNS, [_trial_line(candidate) for candidate in report.candidates]),
        provenance=_provenance(report),
    )


def _headlines(report: BaselineReport) -> list[tuple[str, str]]:
    """The most accurate and the fastest that dominate the starting network beyond luck, else by the means."""
    better = [member for member in report.found if report.beside_start(member).dominates]
    if not better:
        return [("0", f"networks dominate {report.start.candidate.name}")]
    clear = [member for member in better if report.beside_start(member).beyond_spread]
    best, fastest, how = (clear or better)[-1], (clear or better)[0], "" if clear else " by the means"
    gain, ratio = report.beside_start(best).gain, report.beside_start(fastest).ratio
    assert gain is not None  # it dominates
    return [
        (f"{gain * 100:+.2f}%", f"accuracy of {best.candidate.name} over the start, no slower{how}"),
        (f"{ratio:.2f}x", f"the start's latency, {fastest.candidate.name}, no less accurate{how}"),
    ]


_MEMBER_COLUMNS = tuple(Column(title, numeric=title not in ("network", "")) for title in MEMBER_COLUMNS)


def _member_line(member: Member, report: BaselineReport) -> PageRow:
    """The terminal's cells, and what they are sorted by."""
    found, timing = member.candidate, member.timing
    by, judged = None if report.is_start(member) else report.beside_start(member), report.judged(member)
    keys = (
        found.name,
        None if judged is None else judged.mean,
        None if judged is None else judged.spread,
        member.latency_ms,
        None if timing is None else timing.p10_ms,
        None if timing is None else timing.p90_ms,
        found.macs,
        found.parameters,
        None if by is None else by.gain,
        None if by is None else by.error,
        None if by is None else by.ratio,
        verdict_text(by) or None,
    )
    cells = [Cell(text, key) for text, key in zip(member_cells(member, report), keys, strict=True)]
    return PageRow(cells, "ours" if by is None else "faster" if by.beyond_spread else "")


_STAGE_COLUMNS = (
    Column("network", numeric=False),
    Column("stage"),
    Column("block", numeric=False),
    Column("kernel"),
    Column("stride"),
    Column("expansion"),
    Column("squeeze-excite"),
    Column("skip", numeric=False),
    Column("channels"),
    Column("layers"),
)


def _stage_lines(member: Member, report: BaselineReport) -> Iterable[PageRow]:
    for number, stage in enumerate(member.candidate.spec.stages):
        squeeze = None if stage.squeeze_excite is None else stage.squeeze_excite.ratio
        cells = (
            word_cell(name_text(member, report)),
            number_cell(number, str(number)),
            word_cell(stage.block),
            number_cell(stage.kernel, str(stage.kernel)),
            number_cell(stage.stride, str(stage.stride)),
            number_cell(stage.expand_ratio, f"{stage.expand_ratio:g}"),
            number_cell(squeeze, "" if squeeze is None else f"{squeeze:g}"),
            word_cell("yes" if stage.skip else "no"),
            number_cell(stage.channels, str(stage.channels)),
            number_cell(stage.repeats, str(stage.repeats)),
        )
        yield PageRow(cells, "ours" if report.is_start(member) else "")


_TRIAL_COLUMNS = (
    Column("trial"),
    Column("", numeric=False),
    Column("accuracy"),
    Column("latency ms"),
    Column("measured"),
    Column("reward"),
    Column("epochs"),
    Column("MACs"),
    Column("parameters"),
    Column("error", numeric=False),
)


def _trial_line(candidate: TriedNetwork) -> PageRow:
    reward, share, epochs = candidate.reward, candidate.measured_share, candidate.epochs
    cells = (
        number_cell(candidate.trial, str(candidate.trial)),
        word_cell(candidate.state),
        _percent(candidate.accuracy),
        time_cell(None if candidate.latency_s is None else candidate.latency_s * 1e3),
        number_cell(share, "" if share is None else f"{share:.0%}"),
        number_cell(reward, "" if reward is None else f"{reward:.4f}"),
        number_cell(epochs, "" if epochs is None else str(epochs)),
        _count(candidate.macs),
        _count(candidate.parameters),
        word_cell(candidate.error),
    )
    return PageRow(cells)


def _provenance(report: BaselineReport) -> list[tuple[str, str]]:
    seeds = report.confirm_seeds
    return [
        ("Starting network", report.start.candidate.name),
        ("Learned", report.data),
        ("Machine", f"{report.device}, target {report.target}, {threads_text(report.threads)}"),
        ("Trials", f"{report.study}, {report.date}"),
        ("Trainings", training_threads_text(report.training_threads) or "by the user's own trainer"),
        ("Confirmed by", f"{seeds} trainings each with other seeds" if seeds else "nothing"),
    ]


def _percent(share: float | None) -> Cell:
    return number_cell(share, percent_text(share))


def _count(count: int) -> Cell:
    return number_cell(count, count_text(count))
