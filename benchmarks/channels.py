"""Whether channel counts that fill no whole number of vectors are slower, a multiply-add each, than those that do.

    python benchmarks/channels.py --most 256 --threads 1
    python benchmarks/channels.py --half-product 0.5         as if half vectors took half of a whole one's cycles

Kernels of a count of channels, in steps of half a vector, beside the same kernel of the next multiple of a whole one:
multiply-adds a second as a share of the other's, both timed in turn, caches warm, schedules by rules alone.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu
from effgen.machines.processor import default_threads
from effgen.machines.target import this_cpu
from effgen.report.compare import markdown_table
from effgen.runtime.library import prepare_tvm


def pointwise(channels: int) -> Workload:
    return Conv2d(1, 14, 14, 96, channels)


def expanded(channels: int) -> Workload:
    first = Conv2d(1, 28, 28, 24, channels, activation="relu6")
    return ExpandDepthwise(first, depthwise(channels))


def depthwise(channels: int) -> Conv2d:
    return Conv2d(1, 28, 28, channels, channels, (3, 3), padding=(1, 1, 1, 1), groups=channels, activation="relu6")


def dense_window(channels: int) -> Workload:
    return Conv2d(1, 14, 14, 32, channels, (3, 3), padding=(1, 1, 1, 1), activation="relu")


def stem(channels: int) -> Workload:
    kernel, padding = (3, 3), (1, 1, 1, 1)
    return Conv2d(1, 64, 64, 3, channels, kernel, (2, 2), padding, data_layout="NCHW", activation="relu6")


KINDS: dict[str, Callable[[int], Workload]] = {
    "pointwise": pointwise,
    "depthwise": depthwise,
    "expanded": expanded,
    "3x3": dense_window,
    "stem": stem,
}


def share(kind: Callable[[int], Workload], channels: int, machine: Cpu) -> float:
    """Multiply-adds a second of `channels` over those of the next multiple of the machine's lanes."""
    from effgen.measure.carried.timing import compare
    from effgen.measure.case import KernelCase
    from effgen.measure.kernels import LocalBench
    from effgen.schedules import space_of

    works = [kind(count) for count in (channels, -(-channels // machine.lanes) * machine.lanes)]
    benches = [LocalBench(KernelCase(work, machine, space_of), lambda: None) for work in works]
    kernels = []
    for bench in benches:
        assert bench.case.space is not None
        kernels.append(bench.kernel(bench.case.space.default))
        error = bench.error_after(kernels[-1])
        assert error < 1e-5, f"{bench.case.workload.name}: {error}"
    timing = compare(*(bench.side(kernel) for bench, kernel in zip(benches, kernels, strict=True)), thorough=True)
    return works[0].macs / works[1].macs / timing.ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=int, default=8)
    parser.add_argument("--most", type=int, default=256)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument(
        "--half-product", type=float, metavar="CYCLES", help="of a half vector, instead of the target's"
    )
    options = parser.parse_args()
    prepare_tvm()
    machine = this_cpu().with_threads(options.threads)
    if options.half_product is not None:
        costs = machine.costs.model_copy(update={"half_product": options.half_product})
        machine = replace(machine, costs=costs)
    step = machine.lanes // 2
    counts = [n for n in range(step, options.most + 1, step) if n >= options.least and n % machine.lanes]
    found = {name: [share(kind, count, machine) for count in counts] for name, kind in KINDS.items()}
    rows = [(str(count), *(f"{found[name][index]:.2f}" for name in KINDS)) for index, count in enumerate(counts)]
    rows.append(("least", *(f"{min(shares):.2f}" for shares in found.values())))
    rows.append(("mean", *(f"{statistics.fmean(shares):.2f}" for shares in found.values())))
    print(markdown_table(("channels", *KINDS), rows))
    print(f"\n{machine.lanes} lanes, {machine.threads} threads, half_product {machine.costs.half_product:g}")


if __name__ == "__main__":
    main()
