"""The charts of `bench --layers`: where the time of networks goes, and kernels below the machine's ceilings."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from effgen.judge.profile import NETWORK
from effgen.report.html.drawing import (
    GROUP_COLOURS,
    QUIET_COLOUR,
    View,
    cycle,
    json_from_figure,
    log_axis,
    plain_text,
    short_name,
)
from effgen.report.text import bytes_text, milliseconds_text, threads_text
from effgen.results.reports import LayersReport, LayerTime
from effgen.results.rows import machine_label
from effgen.results.sources import LayersSource

#: Diameters of the roofline's points, in pixels, whose kernel takes the whole time; and of the smallest.
_LARGEST_POINT, _SMALLEST_POINT = 90.0, 7.0


_ROW_PIXELS, _FRAME_PIXELS = 46, 150


def stack_views(layers: Sequence[LayersSource]) -> list[View]:
    """A bar a file, as long as its latency: the share of each kernel family."""
    if not layers:
        return []
    labels = [_stack_label(source, layers) for source in layers]
    figure = go.Figure()
    names = _families(layers)
    for family, colour in zip(names, cycle(GROUP_COLOURS, len(names)), strict=True):
        totals = [_family_ms(source.report, family) for source in layers]
        figure.add_trace(_stack(family, totals, layers, labels, colour))
    outside = [max(0.0, source.report.outside_ms) for source in layers]
    figure.add_trace(_stack("outside the kernels", outside, layers, labels, QUIET_COLOUR))
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
    return [View("", json_from_figure(figure), caption)]


def _stack(
    name: str, totals: Sequence[float], layers: Sequence[LayersSource], labels: Sequence[str], colour: str
) -> go.Bar:
    shares = [ms / _whole_ms(source.report) for ms, source in zip(totals, layers, strict=True)]
    return go.Bar(
        name=plain_text(name),
        orientation="h",
        x=shares,
        y=list(labels),
        text=[
            f"{plain_text(name)}: {milliseconds_text(ms)} ms, {share:.1%}"
            for ms, share in zip(totals, shares, strict=True)
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
        one, parts = each.report, [short_name(each.report.model.name)]
        if len({other.report.threads for other in layers}) > 1:
            parts.append(threads_text(one.threads))
        if len({machine_label(other.report.machine) for other in layers}) > 1:
            parts.append(machine_label(one.machine))
        return ", ".join(parts)

    mine = words(source)
    alone = sum(words(other) == mine for other in layers) == 1
    return f"{plain_text(mine if alone else source.name)}<br>{milliseconds_text(report.latency_ms)} ms"


def _families(layers: Sequence[LayersSource]) -> list[str]:
    """Kernel families, the one that takes the largest share of all files first."""
    shares: dict[str, float] = {}
    for source in layers:
        for total in source.report.families:
            shares[total.family] = shares.get(total.family, 0.0) + total.share
    return sorted(shares, key=lambda family: -shares[family])


def _family_ms(report: LayersReport, family: str) -> float:
    return sum(total.total_ms for total in report.families if total.family == family)


def roofline_view(source: LayersSource) -> View:
    """Flop a byte against GFLOP/s: a point a kernel, the area its share of the time, below the measured ceilings."""
    report = source.report
    placed = [layer for layer in report.layers if layer.rates.intensity and layer.rates.gflops]
    figure = go.Figure()
    reach, rates = _draw_ceilings(figure, report, placed)
    names = _families([source])
    for family, colour in zip(names, cycle(GROUP_COLOURS, len(names)), strict=True):
        mine = [layer for layer in placed if layer.family == family]
        if mine:
            figure.add_trace(_points(family, mine, colour))
    figure.update_layout(
        hovermode="closest", xaxis=log_axis("arithmetic intensity, flop/byte", reach), yaxis=log_axis("GFLOP/s", rates)
    )
    left = len(report.layers) - len(placed)
    caption = (
        f"{report.latency_ms:.2f} ms in all, {report.peak_share:.0%} of the peak. Area of a point: the kernel's share "
        f"of the time. Kernels without multiply-adds have no place here: {left}. " + _layers_caption([source])
    )
    label = f"{report.model.name}, {threads_text(report.threads)}, {machine_label(report.machine)} ({source.name})"
    return View(label, json_from_figure(figure), caption)


def _draw_ceilings(
    figure: go.Figure, report: LayersReport, placed: Sequence[LayerTime]
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
                name=plain_text(name),
                mode="lines",
                x=[low, corner],
                y=[low * bandwidth.best, peak],
                line={"color": "#808080", "width": 2.5 if bound else 1, "dash": "solid" if bound else "dot"},
                hovertemplate=plain_text(name) + "<extra></extra>",
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


def _points(family: str, layers: Sequence[LayerTime], colour: str) -> go.Scatter:
    return go.Scatter(
        name=plain_text(f"{family} {sum(layer.share for layer in layers):.0%}"),
        mode="markers",
        x=[layer.rates.intensity for layer in layers],
        y=[layer.rates.gflops for layer in layers],
        text=[
            f"{plain_text(layer.name)}<br>{layer.calls} calls, {layer.total_ms:.3f} ms, {layer.share:.1%}<br>"
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


def _layers_caption(layers: Sequence[LayersSource]) -> str:
    machines = dict.fromkeys(machine_label(source.report.machine) for source in layers)
    busy = max((source.report.other_cpus or 0.0 for source in layers), default=0.0)
    return f"{'; '.join(machines)}; at most {busy:.2f} CPUs of other work meanwhile."
