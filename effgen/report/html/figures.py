"""The charts of a comparison, by plotly: what is drawn, not its size nor the colours of ink and ground (`page.js`).

A chart is a list of views, of which the page shows one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from effgen.report.bench import plan_line
from effgen.report.html.drawing import (
    GROUP_COLOURS,
    OURS_COLOUR,
    PEER_COLOURS,
    QUIET_COLOUR,
    View,
    cycle,
    json_from_figure,
    log_axis,
    plain_text,
    short_name,
)
from effgen.report.html.kernels import roofline_view, stack_views
from effgen.report.text import count_text, milliseconds_text, threads_text
from effgen.results.comparison import Comparison
from effgen.results.reports import OURS
from effgen.results.rows import Row, Setting, by_setting, machine_label


def charts_from_comparison(comparison: Comparison) -> dict[str, list[View]]:
    """Views by chart; an empty list where nothing was measured that it could show."""
    return {
        "phi": _phi_views(comparison),
        "machines": _machine_views(comparison),
        "front": _front_views(comparison),
        "stacks": stack_views(comparison.layers),
        "roofline": [roofline_view(source) for source in comparison.layers],
    }


def _phi_views(comparison: Comparison) -> list[View]:
    """Latency over phi, a line a backend; one view a setting in which a family was measured."""
    views = []
    for setting, rows in by_setting([row for row in comparison.rows if row.model.phi is not None]).items():
        figure = go.Figure()
        colours = _backend_colours(comparison.rows)
        families = list(dict.fromkeys(row.model.family for row in rows))
        for family in families:
            prefix = f"{family}: " if len(families) > 1 else ""
            for backend, mine in _by_backend([row for row in rows if row.model.family == family]).items():
                figure.add_trace(_line(prefix + backend, mine, colours[backend], backend == OURS))
        figure.update_layout(
            hovermode="closest",
            xaxis={"title": {"text": "phi"}, "dtick": 1},
            yaxis=log_axis("latency, ms", _medians(rows)),
        )
        views.append(View(_label(setting), json_from_figure(figure), _setting_caption(comparison, setting)))
    return views


def _line(name: str, rows: Sequence[Row], colour: str, ours: bool) -> go.Scatter:
    ordered = sorted(rows, key=lambda row: row.model.phi or 0.0)
    return go.Scatter(
        name=plain_text(name),
        mode="lines+markers",
        x=[row.model.phi for row in ordered],
        y=[row.result.median_ms for row in ordered],
        text=[_hover(row) for row in ordered],
        hovertemplate="%{text}<extra></extra>",
        line={"color": colour, "width": 3 if ours else 1.5},
        marker={"size": 9 if ours else 6},
    )


def _machine_views(comparison: Comparison) -> list[View]:
    """effgen's latency by model, a bar a setting; only where there are several."""
    ours = [row for row in comparison.rows if row.is_ours]
    groups = by_setting(ours)
    if len(groups) < 2:
        return []
    models = sorted({(row.model.macs, row.model.name) for row in ours})
    figure = go.Figure()
    for (setting, rows), colour in zip(groups.items(), cycle(GROUP_COLOURS, len(groups)), strict=True):
        figure.add_trace(
            go.Bar(
                name=plain_text(_label(setting)),
                x=[plain_text(_short(row)) for row in rows],
                y=[row.result.median_ms for row in rows],
                error_y=_spread(rows) if any(map(_ends, rows)) else None,
                marker={"color": colour},
                text=[_hover(row) for row in rows],
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
            )
        )
    order = list(dict.fromkeys(plain_text(short_name(name)) for _, name in models))
    figure.update_layout(
        barmode="group",
        xaxis={"type": "category", "categoryorder": "array", "categoryarray": order},
        yaxis=log_axis("latency, ms", _medians(ours)),
    )
    caption = "Median latency of effgen's bundles; whiskers from p10 to p90 where they were kept. Logarithmic."
    return [View("", json_from_figure(figure), caption)]


def _front_views(comparison: Comparison) -> list[View]:
    """Multiply-adds against latency, the front as a line; one view a setting."""
    views = []
    colours = _backend_colours(comparison.rows)
    for setting, rows in by_setting(comparison.rows).items():
        best = comparison.fronts[setting]
        figure = go.Figure()
        figure.add_trace(
            go.Scatter(
                name="front",
                mode="lines",
                x=[row.result.median_ms for row in best],
                y=[row.model.macs for row in best],
                line={"color": QUIET_COLOUR, "width": 6},
                opacity=0.45,
                hoverinfo="skip",
            )
        )
        for backend, mine in _by_backend(rows).items():
            figure.add_trace(
                go.Scatter(
                    name=plain_text(backend),
                    mode="markers+text" if backend == OURS else "markers",
                    x=[row.result.median_ms for row in mine],
                    y=[row.model.macs for row in mine],
                    text=[plain_text(_short(row)) for row in mine],
                    textposition="top left",
                    customdata=[_hover(row) for row in mine],
                    hovertemplate="%{customdata}<extra></extra>",
                    marker={"size": 11 if backend == OURS else 8, "color": colours[backend]},
                    cliponaxis=False,
                )
            )
        times = [min(_medians(rows)) / 1.5, *_medians(rows)]  # the names stand on the left
        macs = log_axis("multiply-adds an image", [float(row.model.macs) for row in rows])
        figure.update_layout(hovermode="closest", xaxis=log_axis("latency, ms", times), yaxis=macs)
        views.append(View(_label(setting), json_from_figure(figure), _setting_caption(comparison, setting)))
    return views


def _setting_caption(comparison: Comparison, setting: Setting) -> str:
    reports = [source.report for source in comparison.bench]
    plans = dict.fromkeys(plan_line(report) for report in reports if machine_label(report.machine) == setting.machine)
    several = next(iter(plans), "") if len(plans) == 1 else ""
    return f"{setting.title}. Medians{': ' + several if several else ''}."


def _hover(row: Row) -> str:
    result = row.result
    spread = ""
    if result.p10_ms is not None and result.p90_ms is not None:
        spread = f" ({milliseconds_text(result.p10_ms)} to {milliseconds_text(result.p90_ms)})"
    return (
        f"<b>{plain_text(row.model.name)}</b>, {plain_text(row.backend)} {plain_text(result.version or '')}<br>"
        f"{milliseconds_text(result.median_ms)} ms{spread}<br>{result.ratio:.2f}x effgen's, "
        f"{count_text(row.model.macs)} MACs<br>{plain_text(_label(row.setting))}"
    )


def _spread(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [None if ends is None else ends[1] for ends in map(_ends, rows)],
        "arrayminus": [None if ends is None else ends[0] for ends in map(_ends, rows)],
        "thickness": 1,
        "color": "#808080",
    }


def _ends(row: Row) -> tuple[float, float] | None:
    """From p10 to the median, and on to p90; None where they were not kept."""
    result = row.result
    if result.p10_ms is None or result.p90_ms is None:
        return None
    return result.median_ms - result.p10_ms, result.p90_ms - result.median_ms


def _label(setting: Setting) -> str:
    """A setting in a few words: what is usual is left out."""
    parts = [setting.machine, threads_text(setting.threads)]
    parts += [f"batch {setting.batch}"] if setting.batch != 1 else []
    parts += [setting.dtype] if setting.dtype != "float32" else []
    parts += [setting.target] if setting.target != "cpu" else []
    return ", ".join(parts)


def _short(row: Row) -> str:
    return short_name(row.model.name)


def _by_backend(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.backend, []).append(row)
    return groups


def _backend_colours(rows: Sequence[Row]) -> Mapping[str, str]:
    peers = [backend for backend in _by_backend(rows) if backend != OURS]
    return {OURS: OURS_COLOUR, **dict(zip(peers, cycle(PEER_COLOURS, len(peers)), strict=True))}


def _medians(rows: Sequence[Row]) -> list[float]:
    return [row.result.median_ms for row in rows]
