"""What joining kernels gains, shape by shape: each fused kernel beside the kernels that it replaces.

    python benchmarks/fusion.py 0 3 7 --threads 2 --target cpu

Both sides run on the same data, in turn, after a walk through memory that leaves nothing of them in a core's own
caches. Left: pointwise (or the stem), depthwise and the mean over the image as three kernels; right: the depthwise
kernel that makes its input itself and sums its rows. Schedules are those that `effgen compile` would take.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu
from effgen.machines.processor import usable_cpus
from effgen.machines.target import load_target
from effgen.network import NetworkRequest, build_network
from effgen.runtime.library import prepare_tvm

Run = Callable[[], object]


def fused_workloads(phi: str, batch: int) -> dict[ExpandDepthwise, int]:
    """The network's kernels that were joined, and how often each is called."""
    from effgen.tuning.request import calls_of_network

    calls = calls_of_network(build_network(NetworkRequest(phi=phi, batch=batch)))
    return {w: count for w, count in calls.items() if isinstance(w, ExpandDepthwise)}


def parts_of(fused: ExpandDepthwise) -> list[Workload]:
    """The kernels that a network without fusion would call."""
    image = fused.depthwise.out_shape
    return [fused.expand, replace(fused.depthwise, row_sums=False), GlobalAveragePool(*image)]


def prepare(fused: ExpandDepthwise, machine: Cpu) -> tuple[Run, Run]:
    """Functions that run the parts, one after the other, and the fused kernel."""
    import tvm

    from effgen.kernels.lowering import PIPELINE, tvm_target
    from effgen.kernels.reference import random_inputs
    from effgen.records.choice import KernelChoices

    parts, choices = parts_of(fused), KernelChoices(machine)
    module = tvm.IRModule({w.name: choices.kernel(w) for w in [*parts, fused]})
    library = tvm.compile(module, tvm_target(machine), tir_pipeline=PIPELINE).mod
    data, expand_weight, expand_bias, weight, bias = (
        tvm.runtime.tensor(array) for array in random_inputs(fused, machine, np.random.default_rng(0)).values()
    )
    expanded, out, sums, mean = (
        tvm.runtime.empty(shape, "float32") for shape in (fused.expand.out_shape, *fused.out_shapes, parts[2].out_shape)
    )
    expand, depthwise, pool, whole = (library[w.name] for w in [*parts, fused])

    def run_parts() -> None:
        expand(data, expand_weight, expand_bias, expanded)
        depthwise(expanded, weight, bias, out)
        pool(out, mean)

    return run_parts, lambda: whole(data, expand_weight, expand_bias, weight, bias, out, sums)


def medians(runs: tuple[Run, Run], between: Run, seconds: float) -> list[float]:
    """Median seconds of each, timed in turn."""
    samples: list[list[float]] = [[], []]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples[0]) < 5:
        for run, times in zip(runs, samples, strict=True):
            between()
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in samples]


def report(phi: str, batch: int, machine: Cpu, seconds: float) -> None:
    """Measure and print one network's table."""
    from effgen.measure.kernels import CacheFlush

    flush = CacheFlush(machine)
    print(f"\nefficientnet phi={phi} batch {batch}, {machine.cores} threads, target {machine.name}")
    print(f"{'kernel':64} {'calls':>5} {'parts us':>9} {'fused us':>9} {'gain':>6}")
    totals = np.zeros(2)
    for workload, count in fused_workloads(phi, batch).items():
        parts, fused = medians(prepare(workload, machine), flush, seconds)
        print(f"{workload.name:64} {count:5} {parts * 1e6:9.1f} {fused * 1e6:9.1f} {parts / fused:5.2f}x")
        totals += count * np.array([parts, fused])
    print(f"{'all calls':64} {'':5} {totals[0] * 1e6:9.1f} {totals[1] * 1e6:9.1f} {totals[0] / totals[1]:5.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phi", nargs="*", default=["0"], help="numbers, or names of published rows")
    parser.add_argument("--threads", type=int, default=len(usable_cpus()))
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.4, help="of timing a kernel")
    options = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(options.threads)
    prepare_tvm()
    machine = load_target(options.target).with_threads(options.threads)
    for phi in options.phi:
        report(phi, options.batch, machine, options.seconds)


if __name__ == "__main__":
    main()
