"""How far networks are from what their arithmetic allows: multiply-adds at the peak, and SiLU on top of them.

    python benchmarks/limits.py peers.json

`peers.json` is what compare_peers.py wrote with --out; its peak and latencies are used. The time of a SiLU is measured
here, by effgen's own epilogue over an array in the nearest cache, on one thread. Nothing hides it: it needs the
execution units of the multiply-adds. On a shared machine run it some times: another guest on the same physical core
nearly doubles it, and the lowest is the one to read.
"""

from __future__ import annotations

import argparse
from math import prod
from pathlib import Path

import numpy as np

from effgen.compare import Measured, best_peer, read_comparison
from effgen.kernels.workload import Conv2d, ExpandDepthwise, Workload
from effgen.network import NetworkRequest, build_network
from effgen.runtime.library import prepare_tvm
from effgen.target import Machine, load_target

# 8 KiB, well inside a first-level cache.
_VALUES = 2048
_REPEATS = 1000


def silu_seconds(machine: Machine) -> float:
    """Seconds of one SiLU on one core."""
    import tvm
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as tir

    from effgen.kernels.math import activate
    from effgen.schedules import tvm_target

    lanes = machine.lanes
    # Input and output in one array, some lines apart: addresses that agree in their last 12 bits hinder each other.
    shape = (2, _VALUES // lanes + 3, lanes)
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name("silu")
        tir.func_attr({"global_symbol": "silu", "tirx.noalias": True, "tirx.is_scheduled": True})
        data = tir.arg("data", tir.buffer(shape, "float32", layout=None))
        with tir.serial(0, _REPEATS), tir.serial(0, _VALUES // lanes) as i, tir.vectorized(0, lanes) as lane:
            tir.buffer_store(data, activate(data[0, i, lane], "silu"), [1, i, lane])
    library = tvm.compile(tvm.IRModule({"silu": builder.get()}), tvm_target(machine)).mod
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    times = library.time_evaluator("silu", tvm.cpu(), number=1, repeat=1500)(tvm.runtime.tensor(values)).results
    return float(min(times)) / (_REPEATS * _VALUES)


def silus(workload: Workload) -> int:
    """SiLUs that a call of the kernel computes for its image (squeeze-excite's few are left out)."""
    if isinstance(workload, ExpandDepthwise):
        return silus(workload.expand) + silus(workload.depthwise)
    return prod(workload.out_shape) if isinstance(workload, Conv2d) and workload.activation == "silu" else 0


def row(network: Measured, peak_gflops: float, silu_s: float) -> str:
    """The network's line of the table, milliseconds."""
    from effgen.tune import calls_of_network

    calls = calls_of_network(build_network(NetworkRequest(phi=network.phi, batch=network.batch)))
    products = 2e-6 * network.macs * network.batch / peak_gflops
    epilogues = silu_s * sum(count * silus(workload) for workload, count in calls.items())
    limit = products + 1e3 * epilogues / network.threads
    best = best_peer(network)
    peer = f"{best[1] / limit:.2f}" if best else ""
    cells = (f"{products:.2f}", f"{limit:.2f}", f"{network.ours_ms:.2f}", f"{limit / network.ours_ms:.0%}", peer)
    return f"| {network.phi} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="what compare_peers.py --out wrote")
    comparison = read_comparison(parser.parse_args().file, "FILE")
    prepare_tvm()
    silu_s = silu_seconds(load_target("cpu"))
    print("| phi | multiply-adds, ms | with SiLU, ms | measured, ms | share of the limit | best peer / limit |")
    print("|---:|---:|---:|---:|---:|---:|")
    for network in comparison.networks:
        print(row(network, comparison.peak_gflops, silu_s))
    print(f"\nSiLU: {16e9 * silu_s:.2f} ns for 16 values on one thread")


if __name__ == "__main__":
    main()
