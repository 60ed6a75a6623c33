"""Cores that have nothing to do: how the kernels of EfficientNet are shared out to 1, 2, ... 64 cores, by the rules.

    python benchmarks/idle_cores.py 0 3 7 --target x86-64-v4 --threads 1,2,8,64 --layers 3

A model, nothing is run: each kernel is scheduled as the rules would for so many threads, and its tasks and their work
are read off its loops (`effgen.schedules.shares`). Tasks of a loop are taken to be alike; launches, memory and caches
that cores share are left out, so that what real cores lose beside this is theirs. Told for each network: the share of
the cores' time in which they are idle, how many times as fast it is as on one core, and how much more there is to do
because bands repeat rows. `--layers N` names the N kernels that lose most, with what they are shared out by.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from effgen.errors import EffgenError, TargetError
from effgen.machines.machine import Cpu
from effgen.machines.target import load_target
from effgen.network import NetworkRequest, build_network
from effgen.report.compare import markdown_table
from effgen.runtime.library import prepare_tvm

THREADS = "1,2,4,8,16,64"


@dataclass(frozen=True)
class Layer:
    """One kernel: all its calls' work and time, in operations of a vector, its tasks and its schedule."""

    name: str
    work: float
    time: float
    tasks: int
    decisions: str


def layers_of(phi: str, machine: Cpu) -> list[Layer]:
    """The network's kernels, scheduled for the machine's threads by the rules."""
    from effgen.schedules import space_of
    from effgen.schedules.shares import shares_of
    from effgen.tuning.request import calls_of_network

    found = []
    for workload, calls in calls_of_network(build_network(NetworkRequest(phi=phi))).items():
        space = space_of(workload, machine)
        assert space is not None, workload
        shares = shares_of(space.build(space.default), machine.lanes)
        decisions = " ".join(f"{name}={value}" for name, value in space.default.items())
        time = calls * shares.time(machine.threads)
        found.append(Layer(workload.name, calls * shares.work, time, shares.tasks, decisions))
    return found


def idle_share(layers: list[Layer], threads: int) -> float:
    """The share of the cores' time in which they have nothing to do."""
    return 1.0 - sum(layer.work for layer in layers) / (threads * sum(layer.time for layer in layers))


def worst(layers: list[Layer], threads: int, count: int) -> list[tuple[str, ...]]:
    """The kernels at which most of the cores' time is lost: the share of the network's, their own, tasks, decisions."""
    total = sum(layer.time for layer in layers)
    lost = sorted(layers, key=lambda layer: layer.work / threads - layer.time)[:count]
    return [
        (
            layer.name,
            f"{(layer.time - layer.work / threads) / total:.1%}",
            f"{1 - layer.work / threads / layer.time:.0%}",
            str(layer.tasks),
            layer.decisions,
        )
        for layer in lost
    ]


def run(options: argparse.Namespace) -> None:
    """Raises EffgenError for a user's error."""
    prepare_tvm()
    machine = load_target(options.target)
    if not isinstance(machine, Cpu):
        raise TargetError(f"--target {options.target}: is a GPU; expected a CPU")
    rows = []
    for phi in options.phis:
        alone = layers_of(phi, machine.with_threads(1))
        for threads in options.threads:
            layers = layers_of(phi, machine.with_threads(threads))
            speedup = sum(layer.time for layer in alone) / sum(layer.time for layer in layers)
            more = sum(layer.work for layer in layers) / sum(layer.work for layer in alone)
            rows.append((phi, str(threads), f"{idle_share(layers, threads):.1%}", f"{speedup:.1f}", f"{more - 1:.0%}"))
            if options.layers and threads > 1:
                print(f"\nphi {phi}, {threads} threads:\n")
                header = ("kernel", "of the network's time", "idle in it", "tasks", "decisions")
                print(markdown_table(header, worst(layers, threads, options.layers)))
    print("\n" + markdown_table(("phi", "threads", "idle", "times as fast", "more work"), rows))


def _threads(text: str) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected numbers of threads, e.g. {THREADS}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phis", nargs="*", default=list("01234567"), metavar="PHI", help="default: 0 to 7")
    parser.add_argument("--target", default="x86-64-v4", metavar="NAME|FILE")
    parser.add_argument("--threads", type=_threads, default=_threads(THREADS), metavar="N,N", help=THREADS)
    parser.add_argument("--layers", type=int, default=0, metavar="N", help="name so many kernels that lose most")
    try:
        run(parser.parse_args())
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
