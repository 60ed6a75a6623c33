"""Whether kernels read or write outside their buffers: each is called with every buffer between forbidden pages.

    python benchmarks/guard_pages.py                                     # all kernels of EfficientNet-B0 to -B4
    python benchmarks/guard_pages.py --family mobilenet_v3_large --phi 0
    python benchmarks/guard_pages.py --phi --odd 400 --seed 1            # random ones of every kind, odd shapes

A kernel is called four times: its arguments' last byte before a forbidden page, then their first byte behind one; and
so again with the arrays of its own (tiles, panels, rings) between such pages too, those on the stack moved to the heap.
Inputs cannot be written to; outputs and arrays of a kernel's own are poison before, which must be gone afterwards.
Each network's whole program is called as well, image, outputs, weights and workspace placed so. What dies is named,
and the argument at which it does. Odd shapes get random points of their schedule space.

The kernels are those of `--target`, which must run here, with the schedules that ship (no records of the user's).
Exit status 1 where there was a fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from effgen.machines.machine import Cpu
from effgen.machines.target import load_target
from effgen.runtime.library import prepare_tvm

prepare_tvm()

from guards.campaign import NOTHING, Tally, build_guards, run_functions  # noqa: E402  # TVM reads its threads when loaded
from guards.kernels import ON_HEAP, Kernel, build_library  # noqa: E402
from guards.networks import build_program, kernels_of, scheduled_network  # noqa: E402
from guards.odd import odd_kernels  # noqa: E402

from effgen.kernels import lowering  # noqa: E402

#: Kernels of one library.
_BATCH = 40


#: The code that is shipped, and the same with all arrays of kernels where they are guarded.
LOWERINGS = (lowering.PIPELINE, ON_HEAP)


def try_kernels(kernels: Sequence[Kernel], machine: Cpu, lowerings: Sequence[str] = LOWERINGS) -> Tally:
    """All kernels, lowered so."""
    tally = NOTHING
    for first in range(0, len(kernels), _BATCH):
        batch = kernels[first : first + _BATCH]
        for pipeline in lowerings:
            with tempfile.TemporaryDirectory(prefix="effgen-guards-") as name, lowering.tvm_target(machine):
                folder = Path(name)
                build_guards(folder)
                build_library(batch, machine, folder, pipeline)
                tally += run_functions(folder, {kernel.name: kernel.parameters for kernel in batch})
        print(
            f"{min(first + _BATCH, len(kernels))} of {len(kernels)} kernels", *tally.faults, sep="\n", file=sys.stderr
        )
    return tally


def try_network(family: str, phi: str, machine: Cpu, kernels: dict[str, Kernel]) -> Tally:
    """The network's program; its kernels are added to `kernels`."""
    with tempfile.TemporaryDirectory(prefix="effgen-guards-") as name, lowering.tvm_target(machine):
        folder = Path(name)
        scheduled = scheduled_network(family, phi, machine, folder / "no_records")
        for text, kernel in kernels_of(scheduled):
            kernels.setdefault(text, kernel)
        build_guards(folder)
        return run_functions(folder, build_program(scheduled, machine, folder))


def main() -> int:
    """Try what was asked for and print the counts."""
    options = _options()
    machine = load_target(options.target)
    if not isinstance(machine, Cpu):
        sys.exit(f"--target {options.target}: expected a CPU's")
    kernels: dict[str, Kernel] = {}
    programs = NOTHING
    for phi in options.phi:
        print(f"{options.family}, phi {phi}", file=sys.stderr)
        programs += try_network(options.family, phi, machine, kernels)
    odd = odd_kernels(options.odd, options.seed, machine)
    tried = try_kernels([*kernels.values(), *odd], machine)
    faults = programs.faults + tried.faults
    print(*faults, sep="\n", end="\n" if faults else "")
    print(
        f"{machine.name} ({machine.llvm['mcpu']}, {machine.threads} threads): "
        f"{len(kernels)} kernels of {len(options.phi)} networks and {len(odd)} of odd shapes, "
        f"{tried.calls} calls, {tried.own_arrays} arrays of their own; "
        f"{programs.functions} programs, {programs.calls} calls, {programs.own_arrays} arrays; {len(faults)} faults"
    )
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="efficientnet", help="a spec's name or file")
    parser.add_argument("--phi", nargs="*", default=list("01234"))
    parser.add_argument("--odd", type=int, default=0, help="so many random kernels")
    parser.add_argument("--seed", type=int, default=0, help="of the random ones")
    parser.add_argument("--target", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
