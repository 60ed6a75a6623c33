"""Pictures of measurements, by matplotlib. Nothing is measured or decided here."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effgen.errors import EffgenError
from effgen.files.text import check_writable
from effgen.report.bench import title_from_report
from effgen.report.text import bytes_text, threads_text

if TYPE_CHECKING:
    from effgen.method.budget.dimensions import DimensionRow, DimensionsReport
    from effgen.results.reports import LayersReport, LayerTime

FORMATS = (".png", ".svg", ".pdf")

_INCHES, _DPI = (11.0, 6.0), 150
#: Area of a point, in square points, whose kernel takes all of the network's time; and of the smallest.
_LARGEST_POINT, _SMALLEST_POINT = 4000.0, 12.0
#: So many of the kernels that take longest are named.
_NAMED = 8
#: How a network is drawn that was scaled in this way.
_MARKERS = {"baseline": "o", "depth": "^", "width": "s", "resolution": "D", "compound": "*"}
_MARKER_SIZE, _STAR_SIZE = 8.0, 14.0
_ACCURACY = "top-1 on ImageNet as published, %"


def check_plot(option: str, path: Path) -> None:
    """Raise EffgenError where a picture could not be written to `path`: before the work, not after it."""
    if path.suffix.lower() not in FORMATS:
        raise EffgenError(f"{option} {path}: expected a file that ends in {', '.join(FORMATS)}")
    check_writable(option, path)
    if importlib.util.find_spec("matplotlib") is None:
        raise EffgenError(f"{option} {path}: matplotlib is not installed: pip install 'effgen[plot]'")


def plot_roofline(report: LayersReport, path: Path) -> None:
    """Write the roofline: a point a kernel (flop/byte, GFLOP/s), as large as its share of the time, and the ceilings.

    Kernels without multiply-adds have no place on it.
    """
    layers = [layer for layer in report.layers if layer.rates.intensity and layer.rates.gflops]
    figure, (axes,) = new_figure()
    reach = _draw_ceilings(axes, report, [layer.rates.intensity or 1.0 for layer in layers])
    for family in dict.fromkeys(layer.family for layer in layers):
        _draw_family(axes, family, [layer for layer in layers if layer.family == family])
    longest = sorted(layers, key=lambda layer: -layer.share)[:_NAMED]
    for number, layer in enumerate(longest, start=1):
        # Names beside the points would lie on each other: numbers there, names in the legend.
        place = (layer.rates.intensity, layer.rates.gflops)
        axes.annotate(str(number), place, fontsize="x-small", ha="center", va="center")
        axes.plot([], [], " ", label=f"{number}  {layer.name} {layer.share:.1%}")
    axes.set_xlim(*reach)
    axes.set_xlabel("arithmetic intensity, flop/byte")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(
        f"{title_from_report(report)}: {report.latency_ms:.2f} ms\n"
        f"{report.machine.cpu}; area of a point: share of the time"
    )
    figure.legend(loc="outside right upper", fontsize="small", markerscale=0.5)
    save_figure(figure, path)


def plot_dimensions(report: DimensionsReport, path: Path) -> None:
    """Write latency over multiply-adds where it was measured, and beside it the accuracy that the paper prints.

    A colour a family, a mark a way to scale it, a line from its baseline to each.
    """
    rows = [row for table in report.tables for row in table.rows]
    families = list(dict.fromkeys(row.family for row in rows))
    panels: list[tuple[str, Callable[[DimensionRow], float | None]]] = []
    if report.measured is not None:
        panels.append(("latency, ms", lambda row: row.latency.median_ms if row.latency else None))
    if any(row.published for row in rows):
        panels.append((_ACCURACY, lambda row: row.published.top1 if row.published else None))
    figure, drawn = new_figure(len(panels))
    for axes, (label, value) in zip(drawn, panels, strict=True):
        if len(families) == 1:  # one factor apart: powers of two would leave a tick or none
            axes.set_xscale("linear")
        if len(families) == 1 or label == _ACCURACY:
            axes.set_yscale("linear")
        for number, family in enumerate(families):
            _draw_scaled(axes, f"C{number}", [row for row in rows if row.family == family], value)
        axes.set_xlabel("multiply-adds of an image, millions")
        axes.set_ylabel(label)
    for number, family in enumerate(families):
        drawn[0].plot([], [], color=f"C{number}", label=family)
    for dimension in _MARKERS:
        drawn[0].plot([], [], **_mark(dimension, "gray"), linestyle="", label=dimension)
    figure.legend(loc="outside right upper", fontsize="small")
    lines = ["; ".join(table.title for table in report.tables)]
    if report.measured is not None:
        lines.append(f"{report.measured.machine.cpu}, {threads_text(report.measured.threads)}, batch 1")
    figure.suptitle("\n".join(lines), fontsize="medium")
    save_figure(figure, path)


def _draw_scaled(
    axes: Any, color: str, rows: Sequence[DimensionRow], value: Callable[[DimensionRow], float | None]
) -> None:
    base = (rows[0].macs / 1e6, value(rows[0]))
    for row in rows:
        place = (row.macs / 1e6, value(row))
        axes.plot(*zip(base, place, strict=True), color=color, linewidth=0.8, alpha=0.5)
        axes.plot(*place, **_mark(row.dimension, color))


def _mark(dimension: str, color: str) -> dict[str, Any]:
    size = _STAR_SIZE if dimension == "compound" else _MARKER_SIZE
    return {"marker": _MARKERS[dimension], "markersize": size, "markeredgecolor": "white", "color": color}


def new_figure(panels: int = 1) -> tuple[Any, list[Any]]:
    """A figure of its own and the axes of its panels, without pyplot's global state and a display; all logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    drawn = [figure.add_subplot(1, panels, number) for number in range(1, panels + 1)]
    for axes in drawn:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.grid(True, alpha=0.3)
    return figure, drawn


def save_figure(figure: Any, path: Path) -> None:
    """Write the picture; raises EffgenError."""
    try:
        figure.savefig(path)
    except OSError as error:
        raise EffgenError(f"{path}: cannot write: {error.strerror}; give another path") from None


def _draw_ceilings(axes: Any, report: LayersReport, intensities: Sequence[float]) -> tuple[float, float]:
    """The peak and a slope for each bandwidth; returns the range of intensities that is shown."""
    from effgen.judge.profile import NETWORK

    peak, bandwidths = report.ceilings.peak_gflops, report.ceilings.bandwidths
    corners = [peak / bandwidth.best for bandwidth in bandwidths]
    low, high = min(*intensities, *corners, 1.0) / 2, max(*intensities, *corners) * 2
    axes.plot([min(corners), high], [peak, peak], color="black", linewidth=1.5)
    axes.annotate(f"peak {peak:.0f} GFLOP/s", (high, peak), ha="right", va="bottom")
    for bandwidth, corner in zip(bandwidths, corners, strict=True):
        bound = bandwidth.level == NETWORK
        style = {"linewidth": 1.5} if bound else {"linewidth": 0.8, "linestyle": "--"}
        label = f"{bandwidth.level}: {bandwidth.best:.0f} GB/s at {bytes_text(bandwidth.working_set)}"
        axes.plot([low, corner], [low * bandwidth.best, peak], color="black" if bound else "gray", label=label, **style)
    return low, high


def _draw_family(axes: Any, family: str, layers: Sequence[LayerTime]) -> None:
    places = [(layer.rates.intensity, layer.rates.gflops) for layer in layers]
    areas = [max(_SMALLEST_POINT, _LARGEST_POINT * layer.share) for layer in layers]
    total = math.fsum(layer.share for layer in layers)
    axes.scatter(*zip(*places, strict=True), s=areas, alpha=0.55, edgecolors="none", label=f"{family} {total:.0%}")
