"""Time of every kernel of EfficientNets, beside the multiply-add peak measured in the same run.

    python benchmarks/kernels.py 0 3 b8 --threads 2 --target cpu

Each row: calls in the network, fastest and median time of one call, GFLOP/s, share of the peak. The rounds go
over all kernels in turn, so that a busy moment of the machine does not fall on one of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from effgen.cpu import usable_cpus
from effgen.fusion import KernelCall, calls_from_graph
from effgen.kernels.workload import ChannelScale, Conv2d, Workload
from effgen.network import NetworkRequest, build_network
from effgen.passes.fold_batchnorm import fold_batchnorm
from effgen.target import Machine, load_target
from effgen.weights import initial_weights


def network_kernels(phi: str, batch: int) -> list[Workload]:
    """Every kernel call of one inference of EfficientNet `phi`, in order."""
    graph = build_network(NetworkRequest(phi=phi, batch=batch)).graph
    folded, _ = fold_batchnorm(graph, initial_weights(graph, seed=0))
    return [call.workload for call in calls_from_graph(folded) if isinstance(call, KernelCall)]


def compiled(workloads: list[Workload], machine: Machine) -> Any:
    """One library with all of them."""
    import tvm

    from effgen.kernels.compute import primfunc_from_workload
    from effgen.kernels.lowering import PIPELINE
    from effgen.schedules import schedule_primfunc, tvm_target

    functions = {w.name: schedule_primfunc(primfunc_from_workload(w, machine), w, machine)[0] for w in workloads}
    return tvm.compile(tvm.IRModule(functions), tvm_target(machine), tir_pipeline=PIPELINE).mod


def arguments(workload: Workload, machine: Machine) -> list[Any]:
    """Random arguments of the shapes that the kernel takes, the output last."""
    import tvm

    from effgen.kernels.packing import bias_shape, weight_shape

    shapes = [workload.data_shape]
    if isinstance(workload, Conv2d):
        shapes += [weight_shape(workload, machine), bias_shape(workload, machine)]
        shapes += [workload.out_shape] if workload.residual else []
    elif isinstance(workload, ChannelScale):
        shapes.append(workload.gate_shape)
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(shape, dtype=np.float32) for shape in [*shapes, workload.out_shape]]
    return [tvm.runtime.tensor(array) for array in arrays]


def peak_gflops(machine: Machine) -> float:
    """Multiply-adds in registers on every core: the ceiling of all the numbers below."""
    import tvm
    from tvm import tirx
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as tir

    # As many chains as there are registers, less the two constants and some air for the compiler.
    chains, steps = machine.vector_registers - 4, 200_000
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name("peak")
        tir.func_attr({"global_symbol": "peak", "tirx.noalias": True, "tirx.is_scheduled": True})
        out = tir.arg("out", tir.buffer((machine.cores, chains, machine.lanes), "float32", layout=None))
        with tir.parallel(0, machine.cores) as core:
            acc = tir.sblock_alloc_buffer((chains, machine.lanes), "float32", scope="local", layout=None)
            for chain in range(chains):
                with tir.vectorized(0, machine.lanes) as lane:
                    tir.buffer_store(acc, out[core, chain, lane], [chain, lane])
            with tir.serial(0, steps):
                for chain in range(chains):
                    with tir.vectorized(0, machine.lanes) as lane:
                        step = acc[chain, lane] * tirx.const(0.5, "float32") + tirx.const(0.25, "float32")
                        tir.buffer_store(acc, step, [chain, lane])
            for chain in range(chains):
                with tir.vectorized(0, machine.lanes) as lane:
                    tir.buffer_store(out, acc[chain, lane], [core, chain, lane])
    library = tvm.compile(tvm.IRModule({"peak": builder.get()}), tvm.target.Target(machine.llvm)).mod
    tensor = tvm.runtime.tensor(np.ones((machine.cores, chains, machine.lanes), np.float32))
    times = library.time_evaluator("peak", tvm.cpu(), number=1, repeat=15)(tensor).results
    return 2 * machine.cores * chains * machine.lanes * steps / min(times) / 1e9


def measure(workloads: list[Workload], machine: Machine, rounds: int) -> dict[Workload, list[float]]:
    """Seconds of single calls, twenty a round."""
    import tvm

    started = time.perf_counter()
    library = compiled(workloads, machine)
    print(f"{len(workloads)} kernels compiled in {time.perf_counter() - started:.1f} s")
    timers = {
        w: (library.time_evaluator(w.name, tvm.cpu(), number=1, repeat=20), arguments(w, machine)) for w in workloads
    }
    times: dict[Workload, list[float]] = {w: [] for w in workloads}
    for _ in range(rounds):
        for workload, (timer, tensors) in timers.items():
            times[workload] += timer(*tensors).results
    return times


def _pin_main_thread(machine: Machine) -> None:
    """Keep the main thread off the cores that TVM pinned its workers to.

    TVM leaves it free; beside other processes the scheduler may then put it on a worker's core and run both in turn.
    """
    if machine.cores > 1:
        os.sched_setaffinity(0, {usable_cpus()[0]})


def report(phi: str, batch: int, machine: Machine, rounds: int) -> None:
    """Measure and print one network's table."""
    calls = Counter(network_kernels(phi, batch))
    before = peak_gflops(machine)
    _pin_main_thread(machine)
    times = measure(list(calls), machine, rounds)
    peak = max(before, peak_gflops(machine))
    header = f"efficientnet phi={phi} batch {batch}, {machine.cores} threads, target {machine.name}"
    print(f"\n{header}, peak {peak:.0f} GFLOP/s")
    print(f"{'kernel':46} {'calls':>5} {'min us':>8} {'median':>8} {'GFLOP/s':>8} {'peak %':>6}")
    totals: Counter[str] = Counter()
    for workload, count in calls.items():
        least, median = min(times[workload]), statistics.median(times[workload])
        rate = 2 * workload.macs / least / 1e9 if isinstance(workload, Conv2d) else 0.0
        print(
            f"{workload.name:46} {count:5} {least * 1e6:8.1f} {median * 1e6:8.1f} {rate:8.1f} {100 * rate / peak:6.0f}"
        )
        totals[workload.family] += count * least
    macs = sum(w.macs * n for w, n in calls.items() if isinstance(w, Conv2d))
    for family, seconds in totals.most_common():
        print(f"{family:12} {seconds * 1e3:9.3f} ms")
    total = sum(totals.values())
    print(f"{'all':12} {total * 1e3:9.3f} ms, {macs / 1e9:.3f} GMAC, floor by peak {2e-6 * macs / peak:.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phi", nargs="*", default=["0"], help="numbers, or names of published rows")
    parser.add_argument("--threads", type=int, default=len(usable_cpus()))
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    # TVM takes half of the cores unless told; it reads this when its thread pool starts.
    os.environ["TVM_NUM_THREADS"] = str(options.threads)
    machine = replace(load_target(options.target), cores=options.threads)
    for phi in options.phi:
        report(phi, options.batch, machine, options.rounds)


if __name__ == "__main__":
    main()
