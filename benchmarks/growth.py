"""How latency grows with a family's multiply-adds, and how much of the machine's peak is used."""

from __future__ import annotations

from collections.abc import Sequence

from effgen.results.reports import OURS, BenchReport, LayersReport, Result
from effgen.results.rows import machine_label


def result_of(report: BenchReport, backend: str) -> Result | None:
    """A backend's result, None where it has no time."""
    return next((result for result in report.results if result.backend == backend), None)


def peak_share(report: BenchReport, peak_gflops: float) -> float:
    """The part of the multiply-add peak that effgen reaches: 2 * MACs / latency / peak."""
    seconds = report.results[0].median_ms / 1e3
    return 2 * report.model.macs * report.model.batch / seconds / (peak_gflops * 1e9)


def growth(reports: Sequence[BenchReport], backend: str = OURS) -> list[tuple[float, float]]:
    """(MACs, latency) of the networks in which `backend` has a time, both relative to the first network's.

    Empty where the backend has no time in the first one.
    """
    base = result_of(reports[0], backend)
    if base is None:
        return []
    times = [(report.model.macs, result_of(report, backend)) for report in reports]
    first = reports[0].model.macs
    return [(macs / first, time.median_ms / base.median_ms) for macs, time in times if time is not None]


def worst_growth(points: Sequence[tuple[float, float]]) -> float:
    """The largest factor by which latency has grown more than multiply-adds; at most 1 where it never has."""
    return max(latency / macs for macs, latency in points)


def measured_peak(report: BenchReport, layers: Sequence[LayersReport]) -> float | None:
    """The highest multiply-add peak, GFLOP/s, that files of `bench --layers` hold for the same machine and threads."""
    machine = machine_label(report.machine)
    peaks = (
        each.ceilings.peak_gflops
        for each in layers
        if machine_label(each.machine) == machine and each.threads == report.threads
    )
    return max(peaks, default=None)
