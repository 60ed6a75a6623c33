"""A comparison as tables on a terminal, as CSV, Markdown and JSON. Nothing is decided here."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from effgen.report.tables import numbers_table
from effgen.report.text import DOUBTFUL, bytes_text, count_text, milliseconds_text, ratio_text
from effgen.results.comparison import Comparison
from effgen.results.paper import PAPER_SETTING, TABLE_4, Pair, Remeasured
from effgen.results.regressions import BenchCase, Change, Regressions, judged_text, passes
from effgen.results.rows import Row, Setting, load_text

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Version of the form of `effgen compare --json`.
FORMAT = 1

#: Percent by which a case has to change to be highlighted where no gate is given.
HIGHLIGHT = 5.0


_COLUMNS = (
    "model", "hardware", "threads", "batch", "type", "backend", "version",
    "median ms", "p90 ms", "vs effgen", "images/s", "MACs", "parameters", "size",
)  # fmt: skip
_LEFT = ("model", "hardware", "type", "backend", "version")
_CHANGE_COLUMNS = ("case", "now ms", "was ms", "judged by", "now", "was", "change", "")
_CHANGE_LEFT = ("case", "judged by", "")
_STYLES = {"": None, "slower": "bold red", "faster": "green"}

_CSV_COLUMNS: dict[str, Callable[[Row], object]] = {
    "model": lambda row: row.model.name,
    "family": lambda row: row.model.family,
    "phi": lambda row: row.model.phi,
    "height": lambda row: row.model.resolution[0],
    "width": lambda row: row.model.resolution[1],
    "machine": lambda row: row.setting.machine,
    "target": lambda row: row.setting.target,
    "threads": lambda row: row.setting.threads,
    "load": lambda row: row.setting.load,
    "batch": lambda row: row.setting.batch,
    "dtype": lambda row: row.setting.dtype,
    "backend": lambda row: row.backend,
    "version": lambda row: row.result.version,
    "median_ms": lambda row: row.result.median_ms,
    "mean_ms": lambda row: row.result.mean_ms,
    "p10_ms": lambda row: row.result.p10_ms,
    "p25_ms": lambda row: row.result.p25_ms,
    "p90_ms": lambda row: row.result.p90_ms,
    "p99_ms": lambda row: row.result.p99_ms,
    "min_ms": lambda row: row.result.min_ms,
    "mad_ms": lambda row: row.result.mad_ms,
    "calls": lambda row: row.result.calls,
    "memory_bytes": lambda row: row.result.memory_bytes,
    "ratio_to_effgen": lambda row: row.result.ratio,
    "images_per_second": lambda row: row.result.images_per_second,
    "macs": lambda row: row.model.macs,
    "parameters": lambda row: row.model.parameters,
    "bytes": lambda row: row.bytes,
    "disturbed": lambda row: row.disturbed,
    "source": lambda row: row.source,
}


def tables_from_comparison(comparison: Comparison, gate: float | None = None) -> list[RenderableType]:
    """A row a model, hardware and backend, in bold effgen's; then the regressions."""
    tables: list[RenderableType] = [_rows_table(comparison.rows)] if comparison.rows else []
    if comparison.regressions is not None:
        tables.append(_changes_table(comparison.regressions, gate))
    return tables


def notes_from_comparison(comparison: Comparison) -> list[str]:
    """What the columns mean, the paper's pairs where they were measured, and what stands in one set only."""
    notes = []
    if comparison.rows:
        notes.append("vs effgen: the median over effgen's in the same run, above 1 is slower than effgen")
        notes.append("size: effgen's library and weights; the ONNX file that others read, without their runtime")
    notes += [paper_line(each) for each in comparison.paper if each.ratio is not None]
    if comparison.layers:
        models = ", ".join(dict.fromkeys(source.report.model.name for source in comparison.layers))
        notes.append(f"kernels of {models} were measured too: see them in the report of -o/--output")
    if comparison.regressions is not None:
        notes += _one_sided(comparison.regressions)
    return notes


def paper_line(measured: Remeasured) -> str:
    """A pair of the paper's Table 4 as measured here, in a line."""
    pair = measured.pair
    return (
        f"{pair.large.name} over {pair.small.name}, {measured.backend}, {measured.setting.title}: "
        f"{ratio_text(measured.ratio)} ({measured.statistic}s); published {pair.published:g}x ({PAPER_SETTING})"
    )


def csv_from_comparison(comparison: Comparison) -> str:
    """All rows, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for row in comparison.rows:
        writer.writerow("" if value is None else value for value in _csv_values(row))
    return text.getvalue()


def markdown_from_comparison(comparison: Comparison, gate: float | None = None) -> str:
    """The terminal's tables as Markdown."""
    parts = []
    if comparison.rows:
        parts.append(markdown_table(_COLUMNS, map(row_cells, comparison.rows), left=_LEFT))
    if comparison.regressions is not None:
        cells = [change_cells(change, gate) for change in comparison.regressions.changes]
        parts += ["**Beside the baseline**", markdown_table(_CHANGE_COLUMNS, cells, left=_CHANGE_LEFT)]
    notes = [f"- {_escaped(line)}" for line in (*comparison.doubts, *notes_from_comparison(comparison))]
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()) -> str:
    """A table as Markdown: columns named in `left` are text, the others numbers."""
    rule = [":---" if column in left else "---:" for column in columns]
    lines = [[_escaped(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, rule, *lines))


def json_from_comparison(comparison: Comparison, gate: float | None = None) -> dict[str, Any]:
    """`format`, `kind`, rows as in the CSV, `doubts`, `front` (indices of rows), `paper`, and `regressions` or null."""
    index = {id(row): number for number, row in enumerate(comparison.rows)}
    return {
        "format": FORMAT,
        "kind": "comparison",
        "rows": [dict(zip(_CSV_COLUMNS, _csv_values(row), strict=True)) for row in comparison.rows],
        "doubts": list(comparison.doubts),
        "front": [index[id(row)] for rows in comparison.fronts.values() for row in rows],
        "paper": [_paper_json(pair, comparison.paper) for pair in TABLE_4],
        "regressions": None if comparison.regressions is None else _regressions_json(comparison.regressions, gate),
    }


def row_cells(row: Row) -> tuple[str, ...]:
    """A row's cells, in the order of the table's columns."""
    result = row.result
    return (
        row.model.name,
        hardware_text(row.setting),
        str(row.setting.threads),
        str(row.setting.batch),
        row.setting.dtype,
        row.backend,
        result.version or "",
        milliseconds_text(result.median_ms),
        milliseconds_text(result.p90_ms),
        ratio_text(result.ratio) + (DOUBTFUL if row.disturbed else ""),
        f"{result.images_per_second:.1f}",
        count_text(row.model.macs),
        count_text(row.model.parameters),
        "" if row.bytes is None else bytes_text(row.bytes),
    )


def hardware_text(setting: Setting) -> str:
    """The machine, the target where it is not this machine as it is, and what kept it busy on purpose."""
    target = "" if setting.target == "cpu" else f", {setting.target}"
    return f"{setting.machine}{target}{load_text(setting.load)}"


def change_cells(change: Change, gate: float | None) -> tuple[str, ...]:
    """A change's cells; the last says how it stands to the gate, and what to know."""
    now, before = (
        f"{value:.3f}" if change.peers else milliseconds_text(value) for value in (change.now, change.before)
    )
    return (
        change.case.title,
        milliseconds_text(change.now_ms),
        milliseconds_text(change.before_ms),
        "effgen / best peer" if change.peers else "effgen, ms",
        now,
        before,
        f"{change.change:+.1%}",
        "; ".join(word for word in (verdict(change, gate), change.note) if word),
    )


def verdict(change: Change, gate: float | None) -> str:
    """Slower or faster by more than the gate, or than `HIGHLIGHT` where there is none; else empty."""
    limit = HIGHLIGHT if gate is None else gate
    if not passes(change, limit):
        return "slower"
    return "faster" if change.change < -limit / 100 else ""


def _rows_table(rows: Sequence[Row]) -> Table:
    table = _table(None, _COLUMNS, _LEFT)
    for number, row in enumerate(rows):
        if number and row.source != rows[number - 1].source:
            table.add_section()
        table.add_row(*row_cells(row), style="bold" if row.is_ours else None)
    return table


def _table(title: str | None, columns: Sequence[str], left: Sequence[str], wrap: Sequence[str] = ()) -> Table:
    table = numbers_table(title, columns, left=0, wrap=wrap)
    for column in table.columns:
        if column.header in left:
            column.justify = "left"
    return table


def _changes_table(regressions: Regressions, gate: float | None) -> Table:
    limit = "" if gate is None else f", gate {gate:g}%"
    table = _table(f"beside the baseline{limit}", _CHANGE_COLUMNS, _CHANGE_LEFT, wrap=("case", ""))
    for change in regressions.changes:
        table.add_row(*change_cells(change, gate), style=_STYLES[verdict(change, gate)])
    return table


def _one_sided(regressions: Regressions) -> Iterable[str]:
    for title, cases in (
        ("not in the baseline", regressions.only_now),
        ("not measured again", regressions.only_before),
    ):
        for case in cases:
            yield f"{title}: {case.title}"


def _csv_values(row: Row) -> list[object]:
    return [value(row) for value in _CSV_COLUMNS.values()]


def _paper_json(pair: Pair, measured: Sequence[Remeasured]) -> dict[str, Any]:
    return {
        "large": pair.large.name,
        "small": pair.small.name,
        "published": {
            "large_ms": pair.large.published_s * 1e3,
            "small_ms": pair.small.published_s * 1e3,
            "ratio": pair.published,
            "setting": PAPER_SETTING,
        },
        "measured": [
            {
                **asdict(each.setting),
                "backend": each.backend,
                "large_ms": each.large_ms,
                "small_ms": each.small_ms,
                "ratio": each.ratio,
                "statistic": each.statistic,
            }
            for each in measured
            if each.pair == pair
        ],
    }


def _regressions_json(regressions: Regressions, gate: float | None) -> dict[str, Any]:
    def case_json(case: BenchCase) -> dict[str, Any]:
        return {"model": case.model, **asdict(case.setting)}

    return {
        "gate_percent": gate,
        "changes": [
            {
                **case_json(change.case),
                "before_ms": change.before_ms,
                "now_ms": change.now_ms,
                "peers": list(change.peers),
                "before": change.before,
                "now": change.now,
                "change": change.change,
                "passed": None if gate is None else passes(change, gate),
                "judged": judged_text(change),
                "note": change.note,
            }
            for change in regressions.changes
        ],
        "only_now": [case_json(case) for case in regressions.only_now],
        "only_before": [case_json(case) for case in regressions.only_before],
    }


def _escaped(text: str) -> str:
    """For a cell of a Markdown table, where HTML would be taken for such too."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
    return plain.replace("\\", "\\\\").replace("|", "\\|")
