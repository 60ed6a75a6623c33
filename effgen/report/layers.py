"""`effgen bench --layers` as tables and JSON. Nothing is measured or decided here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from effgen.report.bench import host_line, title_from_report
from effgen.report.tables import numbers_table
from effgen.report.text import bytes_text, threads_text

if TYPE_CHECKING:
    from effgen.results.ceilings import Bandwidth, Ceilings
    from effgen.results.reports import FamilyTotal, LayersReport, LayerTime, Rates

_RATE_COLUMNS = ("GFLOP/s", "GB/s", "flop/B", "of peak", "of roofline")
_LAYER_COLUMNS = ("kernel", "schedule", "calls", "us a call", "total ms", "share", *_RATE_COLUMNS)
_FAMILY_COLUMNS = ("family", "kernels", "calls", "total ms", "share", *_RATE_COLUMNS)


def tables_from_layers(report: LayersReport) -> list[Table]:
    """One row a kernel in the order of first calls; then families, with what is left outside the kernels."""
    layers = numbers_table(title_from_report(report), _LAYER_COLUMNS, left=2)
    for layer in report.layers:
        layers.add_row(*_layer_cells(layer))
    families = numbers_table(None, _FAMILY_COLUMNS, left=1)
    for total in report.families:
        families.add_row(*_family_cells(total))
    families.add_row("outside the kernels", "", "", f"{report.outside_ms:.3f}", _percent(_outside_share(report)))
    families.add_section()
    whole = (f"{report.latency_ms:.3f}", "100%", f"{report.gflops:.1f}", "", "", _percent(report.peak_share))
    kernels, calls = len(report.layers), sum(layer.calls for layer in report.layers)
    families.add_row("network", str(kernels), str(calls), *whole, style="bold")
    return [layers, families]


def notes_from_layers(report: LayersReport) -> list[str]:
    """What the columns mean, the ceilings, how exact the times are, and where it was measured."""
    other = "" if report.other_cpus is None else f", {report.other_cpus:.2f} CPUs of other work meanwhile"
    return [
        *_lines_from_ceilings(report.ceilings),
        "GFLOP/s: two for each multiply-add, activations not counted; GB/s: what has to be read and written once",
        "of roofline: what the peak and the bandwidth at the network's working set allow together; a kernel that finds "
        "its data in a nearer cache can be above it",
        "outside the kernels: the call itself, the copy of the output; "
        f"{report.latency_ms:.3f} ms is the median of calls without clocks",
        f"clocks: {report.clock_us:.2f} us of each call's time are the clock's own",
        host_line(report.machine),
        f"{report.plan.rounds} interleaved rounds, {report.plan.min_time_s:g} s without clocks and with{other}",
    ]


def warning_from_layers(report: LayersReport) -> str:
    """What makes times and ceilings doubtful; empty where nothing does."""
    if not report.disturbed:
        return ""
    return f"other processes kept {report.other_cpus:.1f} CPUs busy: times are inflated, ceilings perhaps too low"


def _outside_share(report: LayersReport) -> float:
    return report.outside_ms / report.latency_ms


def _lines_from_ceilings(ceilings: Ceilings) -> Iterable[str]:
    """The peak, and a bandwidth a level."""
    yield f"peak: {ceilings.peak_gflops:.0f} GFLOP/s of float32 multiply-adds, {threads_text(ceilings.threads)}"
    levels = "; ".join(_bandwidth_text(bandwidth) for bandwidth in ceilings.bandwidths)
    yield f"bandwidth, reading / updating: {levels}"


def _bandwidth_text(bandwidth: Bandwidth) -> str:
    size = bytes_text(bandwidth.working_set)
    return f"{bandwidth.level} ({size}) {bandwidth.read:.0f} / {bandwidth.update:.0f} GB/s"


def _layer_cells(layer: LayerTime) -> Iterable[str]:
    times = (f"{layer.call_us:.1f}", f"{layer.total_ms:.3f}", _percent(layer.share))
    return (layer.name, layer.source, str(layer.calls), *times, *_rate_cells(layer.rates))


def _family_cells(total: FamilyTotal) -> Iterable[str]:
    times = (f"{total.total_ms:.3f}", _percent(total.share))
    return (total.family, str(total.kernels), str(total.calls), *times, *_rate_cells(total.rates))


def _rate_cells(rates: Rates) -> Iterable[str]:
    """Empty where the work is not counted."""
    numbers = (rates.gflops, rates.gbytes_per_s, rates.intensity)
    shares = (rates.peak_share, rates.roofline_share)
    return (*("" if value is None else f"{value:.1f}" for value in numbers), *map(_percent, shares))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}" if abs(share) < 0.1 else f"{share:.0%}"
