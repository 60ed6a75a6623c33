"""A comparison as one self-contained HTML page: what its text, tables and charts say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

from effgen.machines.host import Host
from effgen.report.bench import host_line, plan_line
from effgen.report.compare import HIGHLIGHT, change_cells, hardware_text, verdict
from effgen.report.html.document import Cell, Column, PageRow, document, number_cell, time_cell, word_cell
from effgen.report.text import (
    DOUBTFUL,
    NOT_MEASURED,
    bytes_text,
    count_text,
    milliseconds_text,
    ratio_text,
    threads_text,
)
from effgen.results.comparison import Comparison
from effgen.results.paper import PAPER_SETTING, TABLE_4, Pair, Remeasured
from effgen.results.regressions import Change, Regressions
from effgen.results.reports import LayersReport
from effgen.results.rows import Row, best_peer, by_setting, machine_label
from effgen.results.sources import BenchSource, LayersSource


def page_from_comparison(comparison: Comparison, gate: float | None = None) -> str:
    """The page's text, about 5 MB of which all but a little is plotly.js."""
    from effgen.report.html.figures import charts_from_comparison

    return document(
        "page.html",
        charts_from_comparison(comparison),
        summary=_summary(comparison),
        headlines=_headlines(comparison),
        doubts=comparison.doubts,
        results=_result_table(comparison.rows),
        regressions=_regressions(comparison.regressions, gate),
        paper=(_PAPER_COLUMNS, [line for pair in TABLE_4 for line in _paper_lines(pair, comparison.paper)]),
        paper_setting=PAPER_SETTING,
        machines=_machines(comparison),
        files=(_FILE_COLUMNS, [_file_line(source) for source in _sources(comparison)]),
    )


def _sources(comparison: Comparison) -> list[BenchSource | LayersSource]:
    return [*comparison.bench, *comparison.layers]


def _summary(comparison: Comparison) -> str:
    """What was compared, in a line."""
    sources = _sources(comparison)
    counts = (
        (len({source.report.model.name for source in sources}), "model"),
        (len({row.backend for row in comparison.rows}), "backend"),
        (len({machine_label(source.report.machine) for source in sources}), "machine"),
        (len(sources), "file"),
    )
    parts = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    days = sorted({source.report.origin.date[:10] for source in sources if source.report.origin.date})
    when = f", measured {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "") if days else ""
    return ", ".join(parts) + when


def _headlines(comparison: Comparison) -> list[tuple[str, str]]:
    """For each setting with peers: effgen beside the fastest peer of each model, as a factor and in words."""
    found = []
    for setting, rows in by_setting(comparison.rows).items():
        names = {row.source for row in rows}
        pairs = [
            (source.report.results[0].median_ms, peer.median_ms)
            for source in comparison.bench
            if source.name in names and not source.report.disturbed and (peer := best_peer(source.report)) is not None
        ]
        if pairs:
            ratios = [peer / ours for ours, peer in pairs]
            mean = prod(ratios) ** (1 / len(ratios))
            each = f"mean of {len(ratios)} runs from {min(ratios):.2f} to {max(ratios):.2f}" if pairs[1:] else "one run"
            found.append((f"{mean:.2f}x", f"fastest peer over effgen, {each}: {setting.title}"))
    return found


_RESULT_COLUMNS: dict[str, tuple[Column, Callable[[Row], Cell]]] = {
    "model": (Column("model", numeric=False), lambda row: word_cell(row.model.name)),
    "hardware": (Column("hardware", numeric=False), lambda row: word_cell(hardware_text(row.setting))),
    "threads": (Column("threads"), lambda row: number_cell(row.setting.threads, str(row.setting.threads))),
    "batch": (Column("batch"), lambda row: number_cell(row.setting.batch, str(row.setting.batch))),
    "type": (Column("type", numeric=False), lambda row: word_cell(row.setting.dtype)),
    "backend": (Column("backend", numeric=False), lambda row: word_cell(row.backend)),
    "median": (Column("median ms"), lambda row: time_cell(row.result.median_ms)),
    "p90": (Column("p90 ms"), lambda row: time_cell(row.result.p90_ms)),
    "spread": (Column("spread"), lambda row: number_cell(row.result.spread, _spread_text(row))),
    "ratio": (Column("vs effgen"), lambda row: number_cell(row.result.ratio, _ratio_text(row))),
    "images": (
        Column("images/s"),
        lambda row: number_cell(row.result.images_per_second, f"{row.result.images_per_second:.1f}"),
    ),
    "macs": (Column("MACs"), lambda row: number_cell(row.model.macs, count_text(row.model.macs))),
    "parameters": (
        Column("parameters"),
        lambda row: number_cell(row.model.parameters, count_text(row.model.parameters)),
    ),
    "size": (Column("size"), lambda row: number_cell(row.bytes, "" if row.bytes is None else bytes_text(row.bytes))),
    "version": (Column("version", numeric=False), lambda row: word_cell(row.result.version or "")),
}

#: Columns that give way to a sentence where all rows agree. Those that are empty throughout are left out.
_SETTING_COLUMNS = ("hardware", "threads", "batch", "type")


def _result_table(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows, and what holds for all of them in words."""
    found = {key: {cell(row).text for row in rows} for key, (_, cell) in _RESULT_COLUMNS.items()}
    common = {key: next(iter(found[key])) for key in _SETTING_COLUMNS if len(found[key]) == 1}
    shown = [column for key, column in _RESULT_COLUMNS.items() if key not in common and found[key] != {""}]
    lines = [PageRow([cell(row) for _, cell in shown], "ours" if row.is_ours else "") for row in rows]
    words = {"hardware": "{}", "threads": "threads: {}", "batch": "batch {}", "type": "{}"}
    same = ", ".join(words[key].format(text) for key, text in common.items())
    return {"columns": [column for column, _ in shown], "lines": lines, "same": f"All rows: {same}. " if same else ""}


def _ratio_text(row: Row) -> str:
    return ratio_text(row.result.ratio) + (DOUBTFUL if row.disturbed else "")


def _spread_text(row: Row) -> str:
    spread = row.result.spread
    return ("" if spread is None else f"{spread:.0%}") + ("*" if row.disturbed else "")


_CHANGE_COLUMNS = (
    Column("model", numeric=False),
    Column("setting", numeric=False),
    Column("now ms"),
    Column("was ms"),
    Column("judged by", numeric=False),
    Column("now"),
    Column("was"),
    Column("change"),
    Column("", numeric=False),
)


def _regressions(regressions: Regressions | None, gate: float | None) -> dict[str, Any] | None:
    if regressions is None:
        return None
    limit = HIGHLIGHT if gate is None else gate
    return {
        "table": (_CHANGE_COLUMNS, [_change_line(change, gate) for change in regressions.changes]),
        "limit": f"{limit:g}%",
        "gated": gate is not None,
        "slower": sum(verdict(change, gate) == "slower" for change in regressions.changes),
        "cases": len(regressions.changes),
        "only_now": [case.title for case in regressions.only_now],
        "only_before": [case.title for case in regressions.only_before],
    }


def _change_line(change: Change, gate: float | None) -> PageRow:
    _, now_ms, before_ms, judge, now, before, percent, words = change_cells(change, gate)
    cells = (
        word_cell(change.case.model),
        word_cell(change.case.setting.title),
        number_cell(change.now_ms, now_ms),
        number_cell(change.before_ms, before_ms),
        word_cell(judge),
        number_cell(change.now, now),
        number_cell(change.before, before),
        number_cell(change.change, percent),
        word_cell(words),
    )
    return PageRow(cells, verdict(change, gate))


_PAPER_COLUMNS = (
    Column("pair", numeric=False),
    Column("where", numeric=False),
    Column("backend", numeric=False),
    Column("first, ms"),
    Column("second, ms"),
    Column("ratio"),
)


def _paper_lines(pair: Pair, measured: Sequence[Remeasured]) -> Iterable[PageRow]:
    """The paper's own line, then those measured here, or that there is none."""
    name = word_cell(f"{pair.large.name} / {pair.small.name}")
    large, small = (network.published_s * 1e3 for network in (pair.large, pair.small))
    published = (number_cell(large, f"{large:g}"), number_cell(small, f"{small:g}"))
    ratio = number_cell(pair.published, f"{pair.published:g}x")
    yield PageRow((name, word_cell(f"published: {PAPER_SETTING}"), word_cell(""), *published, ratio), "published")
    here = [each for each in measured if each.pair == pair]
    for each in here:
        times = (
            number_cell(ms, NOT_MEASURED if ms is None else milliseconds_text(ms))
            for ms in (each.large_ms, each.small_ms)
        )
        ratio = number_cell(each.ratio, "" if each.ratio is None else ratio_text(each.ratio))
        how = f"{each.setting.title}; {each.statistic}s{'; like the paper' if each.like_the_paper else ''}"
        yield PageRow((name, word_cell(how), word_cell(each.backend), *times, ratio))
    if not here:
        none = number_cell(None, NOT_MEASURED)
        yield PageRow((name, word_cell("here"), word_cell(""), none, none, number_cell(None, "")))


def _machines(comparison: Comparison) -> list[tuple[str, str]]:
    hosts: dict[str, Host] = {}
    for source in _sources(comparison):
        hosts.setdefault(machine_label(source.report.machine), source.report.machine)
    return [(label, host_line(host)) for label, host in hosts.items()]


_FILE_COLUMNS = (
    Column("file", numeric=False),
    Column("model", numeric=False),
    Column("measured (UTC)", numeric=False),
    Column("effgen's commit", numeric=False),
    Column("how", numeric=False),
    Column("other work, CPUs"),
    Column("versions", numeric=False),
    Column("bundle compiled by", numeric=False),
    Column("left out", numeric=False),
)


def _file_line(source: BenchSource | LayersSource) -> PageRow:
    report = source.report
    origin, busy = report.origin, report.other_cpus
    if isinstance(source.report, LayersReport):
        how, left_out = f"kernels, {source.report.plan.rounds} rounds", ""
    else:
        how = plan_line(source.report)
        left_out = "; ".join(f"{item.backend}: {item.reason}" for item in source.report.left_out)
    cells = (
        word_cell(source.name),
        word_cell(report.model.name),
        word_cell((origin.date or "not kept").replace("T", " ").removesuffix("Z")),
        word_cell(origin.revision or ""),
        word_cell(f"{threads_text(report.threads)}, target {report.target}; {how}"),
        number_cell(busy, "" if busy is None else f"{busy:.2f}"),
        word_cell(_versions(origin.versions)),
        word_cell(_versions(origin.compiled_by)),
        word_cell(left_out),
    )
    return PageRow(cells)


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
