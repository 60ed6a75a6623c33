"""The charts of a comparison, by plotly: what is drawn, not its size nor the colours of ink and ground (`page.js`).

A chart is a list of views, of which the page shows one at a time.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from effgen.compare.comparison import Comparison
from effgen.compare.front import by_setting
from effgen.compare.rows import Row, Setting, machine_label
from effgen.compare.sources import LayersSource
from effgen.layers import NETWORK
from effgen.report import bytes_text, milliseconds_text, plan_line, threads_text
from effgen.report_compare import count_text
from effgen.results import OURS, Layer, LayersReport

#: Readable on white and on black, and told apart by most colour-blind readers; effgen's own stands out.
_OURS_COLOUR = "#e4572e"
_PEER_COLOURS = ("#2a8fc1", "#3f9b5f", "#9467bd", "#8c8c3e", "#7f8fa9", "#c46b9d", "#5b7fd1", "#a9743a")
_FAMILY_COLOURS = (
    "#2a8fc1", "#e4972e", "#3f9b5f", "#9467bd", "#c8505a", "#7f8fa9", "#8c8c3e", "#c46b9d", "#5b7fd1",
)  # fmt: skip
_OUTSIDE_COLOUR = "#a8a8a8"

#: Diameters of the roofline's points, in pixels, whose kernel takes the whole time; and of the smallest.
_LARGEST_POINT, _SMALLEST_POINT = 90.0, 7.0

#: On an axis of more, only powers of ten are labelled.
_MOST_DECADES = 5

_ROW_PIXELS, _FRAME_PIXELS = 46, 150


@dataclass(frozen=True)
class View:
    """One of a chart's pictures: the name to choose it by, plotly's data and layout, and the words below it."""

    label: str
    figure: dict[str, Any]
    caption: str


def charts_from_comparison(comparison: Comparison) -> dict[str, list[View]]:
    """Views by chart; an empty list where nothing was measured that it could show."""
    return {
        "phi": _phi_views(comparison),
        "machines": _machine_views(comparison),
        "front": _front_views(comparison),
        "stacks": _stack_views(comparison.layers),
        "roofline": [_roofline_view(source) for source in comparison.layers],
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
            hovermode="closest", xaxis={"title": {"text": "phi"}, "dtick": 1}, yaxis=_log("latency, ms", _medians(rows))
        )
        views.append(View(_label(setting), _plain(figure), _setting_caption(comparison, setting)))
    return views


def _line(name: str, rows: Sequence[Row], colour: str, ours: bool) -> go.Scatter:
    ordered = sorted(rows, key=lambda row: row.model.phi or 0.0)
    return go.Scatter(
        name=_text(name),
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
    for (setting, rows), colour in zip(groups.items(), _cycle(_FAMILY_COLOURS, len(groups)), strict=True):
        figure.add_trace(
            go.Bar(
                name=_text(_label(setting)),
                x=[_text(_short(row)) for row in rows],
                y=[row.result.median_ms for row in rows],
                error_y=_spread(rows) if any(map(_ends, rows)) else None,
                marker={"color": colour},
                text=[_hover(row) for row in rows],
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
            )
        )
    order = list(dict.fromkeys(_text(_short_name(name)) for _, name in models))
    figure.update_layout(
        barmode="group",
        xaxis={"type": "category", "categoryorder": "array", "categoryarray": order},
        yaxis=_log("latency, ms", _medians(ours)),
    )
    caption = "Median latency of effgen's bundles; whiskers from p10 to p90 where they were kept. Logarithmic."
    return [View("", _plain(figure), caption)]


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
                line={"color": _OUTSIDE_COLOUR, "width": 6},
                opacity=0.45,
                hoverinfo="skip",
            )
        )
        for backend, mine in _by_backend(rows).items():
            figure.add_trace(
                go.Scatter(
                    name=_text(backend),
                    mode="markers+text" if backend == OURS else "markers",
                    x=[row.result.median_ms for row in mine],
                    y=[row.model.macs for row in mine],
                    text=[_text(_short(row)) for row in mine],
                    textposition="top left",
                    customdata=[_hover(row) for row in mine],
                    hovertemplate="%{customdata}<extra></extra>",
                    marker={"size": 11 if backend == OURS else 8, "color": colours[backend]},
                    cliponaxis=False,
                )
            )
        times = [min(_medians(rows)) / 1.5, *_medians(rows)]  # the names stand on the left
        macs = _log("multiply-adds an image", [float(row.model.macs) for row in rows])
        figure.update_layout(hovermode="closest", xaxis=_log("latency, ms", times), yaxis=macs)
        views.append(View(_label(setting), _plain(figure), _setting_caption(comparison, setting)))
    return views


def _stack_views(layers: Sequence[LayersSource]) -> list[View]:
    """A bar a file, as long as its latency: the share of each kernel family."""
    if not layers:
        return []
    labels = [_stack_label(source, layers) for source in layers]
    figure = go.Figure()
    names = _families(layers)
    for family, colour in zip(names, _cycle(_FAMILY_COLOURS, len(names)), strict=True):
        totals = [_family_ms(source.report, family) for source in layers]
        figure.add_trace(_stack(family, totals, layers, labels, colour))
    outside = [max(0.0, source.report.outside_ms) for source in layers]
    figure.add_trace(_stack("outside the kernels", outside, layers, labels, _OUTSIDE_COLOUR))
    figure.update_layout(
        barmode="stack",
        bargap=0.35,
        height=_FRAME_PIXELS + _ROW_PIXELS * len(layers),
        xaxis={"title": {"text": "share of the latency"}, "tickformat": ".0%", "range": [0, 1.0]},
        yaxis={"autorange": "reversed", "type": "category"},
        legend={"traceorder": "normal"},
    )
    caption = (
        "Time inside the running network by kernel family, the whole latency below each name. "
        "Outside the kernels: the call itself, the copy of the output. " + _layers_caption(layers)
    )
    return [View("", _plain(figure), caption)]


def _stack(
    name: str, totals: Sequence[float], layers: Sequence[LayersSource], labels: Sequence[str], colour: str
) -> go.Bar:
    shares = [ms / _whole_ms(source.report) for ms, source in zip(totals, layers, strict=True)]
    return go.Bar(
        name=_text(name),
        orientation="h",
        x=shares,
        y=list(labels),
        text=[
            f"{_text(name)}: {milliseconds_text(ms)} ms, {share:.1%}" for ms, share in zip(totals, shares, strict=True)
        ],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
        marker={"color": colour},
    )


def _whole_ms(report: LayersReport) -> float:
    """The latency; what the kernels sum up to, where other work between two measurements made that more."""
    return max(report.latency_ms, report.kernels_ms)


def _stack_label(source: LayersSource, layers: Sequence[LayersSource]) -> str:
    """The model and its latency; what else differs between the files; the file where that is not enough."""
    report = source.report

    def words(each: LayersSource) -> str:
        one, parts = each.report, [_short_name(each.report.model.name)]
        if len({other.report.threads for other in layers}) > 1:
            parts.append(threads_text(one.threads))
        if len({machine_label(other.report.machine) for other in layers}) > 1:
            parts.append(machine_label(one.machine))
        return ", ".join(parts)

    mine = words(source)
    alone = sum(words(other) == mine for other in layers) == 1
    return f"{_text(mine if alone else source.name)}<br>{milliseconds_text(report.latency_ms)} ms"


def _families(layers: Sequence[LayersSource]) -> list[str]:
    """Kernel families, the one that takes the largest share of all files first."""
    shares: dict[str, float] = {}
    for source in layers:
        for total in source.report.families:
            shares[total.family] = shares.get(total.family, 0.0) + total.share
    return sorted(shares, key=lambda family: -shares[family])


def _family_ms(report: LayersReport, family: str) -> float:
    return sum(total.total_ms for total in report.families if total.family == family)


def _roofline_view(source: LayersSource) -> View:
    """Flop a byte against GFLOP/s: a point a kernel, the area its share of the time, below the measured ceilings."""
    report = source.report
    placed = [layer for layer in report.layers if layer.rates.intensity and layer.rates.gflops]
    figure = go.Figure()
    reach, rates = _draw_ceilings(figure, report, placed)
    names = _families([source])
    for family, colour in zip(names, _cycle(_FAMILY_COLOURS, len(names)), strict=True):
        mine = [layer for layer in placed if layer.family == family]
        if mine:
            figure.add_trace(_points(family, mine, colour))
    figure.update_layout(
        hovermode="closest", xaxis=_log("arithmetic intensity, flop/byte", reach), yaxis=_log("GFLOP/s", rates)
    )
    left = len(report.layers) - len(placed)
    caption = (
        f"{report.latency_ms:.2f} ms in all, {report.peak_share:.0%} of the peak. Area of a point: the kernel's share "
        f"of the time. Kernels without multiply-adds have no place here: {left}. " + _layers_caption([source])
    )
    label = f"{report.model.name}, {threads_text(report.threads)}, {machine_label(report.machine)} ({source.name})"
    return View(label, _plain(figure), caption)


def _draw_ceilings(
    figure: go.Figure, report: LayersReport, placed: Sequence[Layer]
) -> tuple[Sequence[float], Sequence[float]]:
    """The peak and a slope for each bandwidth; returns the ends of both axes."""
    intensities = [layer.rates.intensity or 1.0 for layer in placed]
    peak, bandwidths = report.ceilings.peak_gflops, report.ceilings.bandwidths
    corners = [peak / bandwidth.best for bandwidth in bandwidths]
    low, high = min([*intensities, *corners, 1.0]) / 2, max([*intensities, *corners]) * 2
    for bandwidth, corner in zip(bandwidths, corners, strict=True):
        bound = bandwidth.level == NETWORK
        name = f"{bandwidth.level}: {bandwidth.best:.0f} GB/s at {bytes_text(bandwidth.working_set)}"
        figure.add_trace(
            go.Scatter(
                name=_text(name),
                mode="lines",
                x=[low, corner],
                y=[low * bandwidth.best, peak],
                line={"color": "#808080", "width": 2.5 if bound else 1, "dash": "solid" if bound else "dot"},
                hovertemplate=_text(name) + "<extra></extra>",
            )
        )
    figure.add_trace(
        go.Scatter(
            name=f"peak: {peak:.0f} GFLOP/s",
            mode="lines",
            x=[min(corners, default=low), high],
            y=[peak, peak],
            line={"color": "#808080", "width": 2.5},
            hovertemplate=f"peak: {peak:.0f} GFLOP/s<extra></extra>",
        )
    )
    lowest = min([*(layer.rates.gflops or peak for layer in placed), *(low * each.best for each in bandwidths), peak])
    return (low, high), (lowest, peak)


def _points(family: str, layers: Sequence[Layer], colour: str) -> go.Scatter:
    return go.Scatter(
        name=_text(f"{family} {sum(layer.share for layer in layers):.0%}"),
        mode="markers",
        x=[layer.rates.intensity for layer in layers],
        y=[layer.rates.gflops for layer in layers],
        text=[
            f"{_text(layer.name)}<br>{layer.calls} calls, {layer.total_ms:.3f} ms, {layer.share:.1%}<br>"
            f"{layer.rates.gflops or 0:.1f} GFLOP/s at {layer.rates.intensity or 0:.1f} flop/byte"
            for layer in layers
        ],
        hovertemplate="%{text}<extra></extra>",
        marker={
            "size": [max(_SMALLEST_POINT, _LARGEST_POINT * layer.share**0.5) for layer in layers],
            "color": colour,
            "opacity": 0.6,
            "line": {"width": 0},
        },
    )


def _setting_caption(comparison: Comparison, setting: Setting) -> str:
    reports = [source.report for source in comparison.bench]
    plans = dict.fromkeys(plan_line(report) for report in reports if machine_label(report.machine) == setting.machine)
    several = next(iter(plans), "") if len(plans) == 1 else ""
    return f"{setting.title}. Medians{': ' + several if several else ''}."


def _layers_caption(layers: Sequence[LayersSource]) -> str:
    machines = dict.fromkeys(machine_label(source.report.machine) for source in layers)
    busy = max((source.report.other_cpus or 0.0 for source in layers), default=0.0)
    return f"{'; '.join(machines)}; at most {busy:.2f} CPUs of other work meanwhile."


def _hover(row: Row) -> str:
    result = row.result
    spread = ""
    if result.p10_ms is not None and result.p90_ms is not None:
        spread = f" ({milliseconds_text(result.p10_ms)} to {milliseconds_text(result.p90_ms)})"
    return (
        f"<b>{_text(row.model.name)}</b>, {_text(row.backend)} {_text(result.version or '')}<br>"
        f"{milliseconds_text(result.median_ms)} ms{spread}<br>{result.ratio:.2f}x effgen's, "
        f"{count_text(row.model.macs)} MACs<br>{_text(_label(row.setting))}"
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
    return _short_name(row.model.name)


def _short_name(name: str) -> str:
    """`efficientnet phi=3` as `B3`: the family's name is in every heading."""
    family, _, phi = name.partition(" phi=")
    return f"B{phi}" if family == "efficientnet" and phi.isdigit() else name


def _by_backend(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.backend, []).append(row)
    return groups


def _backend_colours(rows: Sequence[Row]) -> Mapping[str, str]:
    peers = [backend for backend in _by_backend(rows) if backend != OURS]
    return {OURS: _OURS_COLOUR, **dict(zip(peers, _cycle(_PEER_COLOURS, len(peers)), strict=True))}


def _cycle(colours: Sequence[str], count: int) -> Iterable[str]:
    return [colours[index % len(colours)] for index in range(count)]


def _medians(rows: Sequence[Row]) -> list[float]:
    return [row.result.median_ms for row in rows]


def _log(title: str, values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis over `values` and a little more, with whole numbers on it: plotly's own leave out zeros."""
    low, high = min(values, default=1.0) / 1.4, max(values, default=1.0) * 1.4
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if len(decades) > _MOST_DECADES else (1, 2, 5)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return {
        "title": {"text": title},
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [count_text(round(tick)) if tick >= 10**6 else f"{tick:g}" for tick in ticks],
    }


def _text(text: str) -> str:
    """Plotly takes some HTML for markup: a name is no markup."""
    return html.escape(text, quote=False)


def _plain(figure: go.Figure) -> dict[str, Any]:
    """Plotly's data and layout as JSON values, without the default template, which the page's own colours replace."""
    figure.update_layout(template=None)
    made: dict[str, Any] = json.loads(figure.to_json())
    return {"data": made["data"], "layout": made["layout"]}
