"""How far networks are from what their arithmetic allows: multiply-adds at the peak, and SiLU on top of them.

    python benchmarks/limits.py build/report/results
    python benchmarks/limits.py benchmarks/baseline --peak 235.8

Files of `effgen bench --json` give the latencies, those of `bench --layers` among them the peak, or --peak states it.
The time of a SiLU is measured here, by effgen's own epilogue over an array in the nearest cache, on one thread. Nothing
hides it: it needs the execution units of the multiply-adds. On a shared machine run it some times: another guest on the
same physical core nearly doubles it, and the lowest is the one to read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from growth import measured_peak

from effgen.errors import EffgenError, ResultsError
from effgen.machines.host import describe_host
from effgen.machines.machine import Cpu
from effgen.machines.target import this_cpu
from effgen.network import NetworkRequest, build_network
from effgen.report.compare import markdown_table
from effgen.results.reports import BenchReport
from effgen.results.rows import best_peer, machine_label
from effgen.results.sources import read_sources
from effgen.runtime.library import prepare_tvm

_HEADER = ("phi", "multiply-adds, ms", "with SiLU, ms", "measured, ms", "share of the limit", "best peer / limit")

# 8 KiB, well inside a first-level cache.
_VALUES = 2048
_REPEATS = 1000


def silu_seconds(machine: Cpu) -> float:
    """Seconds of one SiLU on one core."""
    import tvm

    from effgen.measure.probes import activation_kernel, activation_shape, compiled

    steps = _VALUES // machine.lanes
    library = compiled({"silu": activation_kernel("silu", "silu", steps, machine.lanes, _REPEATS)}, machine)
    shape = activation_shape(steps, machine.lanes)
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    times = library.time_evaluator("silu", tvm.cpu(), number=1, repeat=1500)(tvm.runtime.tensor(values)).results
    return float(min(times)) / (_REPEATS * _VALUES)


def row(report: BenchReport, peak_gflops: float, silu_s: float) -> tuple[str, ...]:
    """The network's line of the table, milliseconds."""
    from effgen.tuning.request import calls_of_network

    model, ours_ms = report.model, report.results[0].median_ms
    calls = calls_of_network(build_network(NetworkRequest(phi=f"{model.phi:g}", batch=model.batch)))
    products = 2e-6 * model.macs * model.batch / peak_gflops
    epilogues = silu_s * sum(count * workload.activated("silu") for workload, count in calls.items())
    limit = products + 1e3 * epilogues / report.threads
    best = best_peer(report)
    peer = f"{best.median_ms / limit:.2f}" if best else ""
    return (f"{model.phi:g}", f"{products:.2f}", f"{limit:.2f}", f"{ours_ms:.2f}", f"{limit / ours_ms:.0%}", peer)


def run(options: argparse.Namespace) -> None:
    """Raises EffgenError for a user's error."""
    bench, layers = read_sources(options.files, "FILE")
    reports = sorted((each.report for each in bench if each.report.model.family == "efficientnet"), key=_macs)
    if not reports:
        raise ResultsError("FILE: no EfficientNet in it; expected files of effgen bench --json")
    prepare_tvm()
    silu_s = silu_seconds(this_cpu())
    here = machine_label(describe_host())
    lines = []
    for report in reports:
        if machine_label(report.machine) != here:
            print(f"warning: measured on {machine_label(report.machine)}, SiLU on {here}", file=sys.stderr)
        peak = options.peak or measured_peak(report, [source.report for source in layers])
        if peak is None:
            raise ResultsError(
                f"FILE: no peak for {report.model.name}: give a file of effgen bench --layers, or --peak"
            )
        lines.append(row(report, peak, silu_s))
    print(markdown_table(_HEADER, lines))
    print(f"\nSiLU: {16e9 * silu_s:.2f} ns for 16 values on one thread")


def _macs(report: BenchReport) -> int:
    return report.model.macs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what effgen bench --json wrote; folders")
    parser.add_argument("--peak", type=float, metavar="GFLOPS", help="the machine's multiply-add peak")
    try:
        run(parser.parse_args())
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
