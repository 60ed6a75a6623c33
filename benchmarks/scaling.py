"""How latency grows with phi, beside the multiply-adds: a table and a picture from files of `effgen bench --json`.

    benchmarks/report.sh build/report 0 1 2 3 4 5 6 7
    python benchmarks/scaling.py build/report/results --plot docs/figures/latency_vs_macs.png

All are to be of one machine, batch size and thread count. The share of the peak needs the peak: files of
`effgen bench --layers` among them hold it, or --peak states it. Exits 3 with --max-growth where effgen's latency has
grown by more than that factor beyond its multiply-adds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from growth import growth, measured_peak, peak_share, worst_growth

from effgen.errors import EffgenError, RegressionError, ResultsError
from effgen.report.compare import markdown_table
from effgen.report.plots import check_plot, new_figure, save_figure
from effgen.results.reports import OURS, BenchReport
from effgen.results.rows import best_peer, setting_of
from effgen.results.sources import read_sources

_HEADER = (
    "phi",
    "pixels",
    "GMACs",
    "MACs, relative",
    "latency, ms",
    "latency, relative",
    "of peak",
    "best peer",
    "its ms",
)


def rows(reports: Sequence[BenchReport], peaks: Sequence[float | None]) -> Iterable[Sequence[str]]:
    """A row a network; `peaks` are the GFLOP/s peaks measured with each."""
    for report, peak, (macs, latency) in zip(reports, peaks, growth(reports), strict=True):
        model, best, ours_ms = report.model, best_peer(report), report.results[0].median_ms
        peer = (best.backend, f"{best.median_ms:.2f} ({best.median_ms / ours_ms:.2f}x)") if best else ("", "")
        size = (f"{model.phi:g}", str(model.resolution[1]), f"{model.macs / 1e9:.2f}", f"{macs:.2f}")
        share = "" if peak is None else f"{peak_share(report, peak):.0%}"
        yield (*size, f"{ours_ms:.2f}", f"{latency:.2f}", share, *peer)


def loaded(paths: Sequence[Path], peak: float | None) -> tuple[list[BenchReport], list[float | None]]:
    """All networks by size with their peaks. Raises EffgenError where they cannot be set side by side."""
    bench, layers = read_sources(paths, "FILE")
    reports = sorted((source.report for source in bench if source.report.model.phi is not None), key=_macs)
    if not reports:
        raise ResultsError("FILE: no network of a scaled family in it; expected files of effgen bench --json")
    if len({report.model.name for report in reports}) < len(reports):
        raise ResultsError("FILE: a network is there twice; give each phi once")
    if len({setting_of(report) for report in reports}) != 1:
        raise ResultsError("FILE: networks of one machine, target, batch size, type and thread count are needed")
    kernels = [source.report for source in layers]
    return reports, [peak or measured_peak(report, kernels) for report in reports]


def _macs(report: BenchReport) -> int:
    return report.model.macs


def plot_scaling(
    series: Mapping[str, Sequence[tuple[float, float]]], labels: Sequence[str], title: str, path: Path
) -> None:
    """Write (multiply-adds, latency) of each backend, both relative to the first network's, beside the diagonal.

    `labels` name the networks of the first series.
    """
    figure, (axes,) = new_figure()
    most = max(macs for points in series.values() for macs, _ in points)
    axes.plot([1, most], [1, most], color="black", linewidth=1, linestyle="--", label="as fast as multiply-adds grow")
    for name, points in series.items():
        macs, latency = zip(*points, strict=True)
        width = 2.5 if points is next(iter(series.values())) else 1.0
        axes.plot(macs, latency, marker="o", linewidth=width, markersize=2 + 2 * width, label=name)
    for label, point in zip(labels, next(iter(series.values())), strict=True):
        axes.annotate(label, point, textcoords="offset points", xytext=(6, -12))
    axes.set_xlabel(f"multiply-adds, times those of {labels[0]}")
    axes.set_ylabel(f"latency, times that of {labels[0]}")
    axes.set_title(title)
    axes.legend(loc="upper left", fontsize="small")
    save_figure(figure, path)


def run(options: argparse.Namespace) -> None:
    """Raises EffgenError for a user's error, RegressionError where the growth is above --max-growth."""
    if options.plot:
        check_plot("--plot", options.plot)
    reports, peaks = loaded(options.files, options.peak)
    print(markdown_table(_HEADER, rows(reports, peaks)))
    worst = worst_growth(growth(reports))
    first = reports[0]
    where = f"batch {first.model.batch}, {first.threads} threads"
    print(f"\n{where}; latency grew at most {worst:.2f} times as much as MACs")
    if options.plot:
        names = dict.fromkeys(result.backend for report in reports for result in report.results)
        series = {name: growth(reports, name) for name in (OURS, *(name for name in names if name != OURS))}
        labels = [f"phi={report.model.phi:g}" for report in reports]
        title = f"Latency and multiply-adds, {where}"
        plot_scaling({name: points for name, points in series.items() if points}, labels, title, options.plot)
    if options.max_growth is not None and not worst <= options.max_growth:
        raise RegressionError(f"latency grew {worst:.2f} times as much as MACs; --max-growth {options.max_growth:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what effgen bench --json wrote; folders")
    parser.add_argument("--peak", type=float, metavar="GFLOPS", help="the machine's multiply-add peak")
    parser.add_argument("--plot", type=Path, help="write the picture (.png, .svg, .pdf)")
    parser.add_argument("--max-growth", type=float, help="the gate: latency's growth over the MACs' growth")
    try:
        run(parser.parse_args())
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
