"""What the rules share: the shape of a rule, and the steps that every one of them takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import tvm
from tvm import s_tir
from tvm.s_tir import Schedule
from tvm.tirx import IterVar, PrimFunc

from effgen.kernels import tiles
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.workload import NUMBER_TYPES, AnyWorkload, Workload
from effgen.machines.machine import Cpu, Gpu
from effgen.schedules.space import Space

AnyMachine = TypeVar("AnyMachine", Cpu, Gpu)

# Loops and blocks of a schedule are opaque handles.
Handle: TypeAlias = Any

DATA_PARALLEL = IterVar.DataPar


@dataclass(frozen=True)
class Rule(Generic[AnyWorkload, AnyMachine]):
    """A rule: what kind of kernels it is for, and of which families (none said: of all). `space` gives the schedule
    space of such a kernel on a machine, or None where it does not fit. Called with any kernel, it passes over others.
    """

    kind: type[AnyWorkload]
    families: tuple[str, ...]
    space: Callable[[AnyWorkload, AnyMachine], Space | None]

    def __call__(self, workload: Workload, machine: AnyMachine) -> Space | None:
        if not isinstance(workload, self.kind) or (self.families and workload.family not in self.families):
            return None
        return self.space(workload, machine)


def rule(
    kind: type[AnyWorkload], *families: str
) -> Callable[[Callable[[AnyWorkload, AnyMachine], Space | None]], Rule[AnyWorkload, AnyMachine]]:
    """Makes a rule of a function of kernels of this kind, of these families only where any are said."""
    return lambda space: Rule(kind, families, space)


def schedule_of(func: PrimFunc) -> Schedule:
    """A fresh schedule of one function, which becomes `main`."""
    return s_tir.Schedule(tvm.IRModule({"main": func}))


def scheduled(schedule: Schedule, name: str) -> PrimFunc:
    """The function of a finished schedule, under its own name again; TVM's passes leave its loops alone."""
    return schedule.mod["main"].with_attr("global_symbol", name).with_attr("tirx.is_scheduled", True)


def split(schedule: Schedule, loop: Handle, *inner: int) -> list[Handle]:
    """`loop` as an outer loop and `inner` extents; loops of one iteration stay, so that their number is known."""
    return list(schedule.split(loop, [None, *inner], preserve_unit_iters=True))


def in_registers(schedule: Schedule, acc: Handle, at: Handle) -> list[Handle]:
    """Compute the reduction block `acc` under loop `at` in a local array, reduction loops outside.

    The spatial loops left under `at` are a register tile, the last of them the lanes of a vector:

        for at: for k: for rows: for vectors: for lane      (rows and vectors unrolled, lane vectorised)

    so that LLVM keeps the whole local array in registers over the reduction. Gives the reduction loops.
    """
    schedule.compute_at(acc, at, preserve_unit_loops=True)
    schedule.set_scope(acc, 0, "local")
    below = loops_below(schedule, acc, at)
    kinds = [variable.iter_type for variable in schedule.get(acc).iter_vars]
    tile = [loop for loop, kind in zip(below, kinds, strict=True) if kind == DATA_PARALLEL]
    reduction = below[len(tile) :]
    schedule.reorder(*reduction, *tile)
    unroll_tile(schedule, tile)
    schedule.decompose_reduction(acc, reduction[0])
    return reduction


def unroll_tile(schedule: Schedule, tile: list[Handle]) -> None:
    """Unroll all loops of a register tile but the last, which is vectorised."""
    for loop in tile[:-1]:
        schedule.unroll(loop)
    schedule.vectorize(tile[-1])


def loops_below(schedule: Schedule, block: Handle, at: Handle) -> list[Handle]:
    """The loops of `block` inside loop `at`, outermost first."""
    loops = list(schedule.get_loops(block))
    depth = next(i for i, loop in enumerate(loops) if schedule.get(loop).same_as(schedule.get(at)))
    return loops[depth + 1 :]


def worth_a_launch(machine: Cpu, macs: int, size: int) -> bool:
    """Whether so many multiply-adds, or bytes to move, take long enough on one core to share them."""
    return max(macs / machine.lanes, size / machine.costs.stream_bytes) > 2 * machine.costs.launch


def bands_for(rows: int, machine: Cpu) -> tuple[int, ...]:
    """How many bands `rows` may be shared out to: none; divisors of the cores' number, for what is shared out in
    another way as well, so that all cores have the same of both together; multiples of it."""
    multiples = (machine.cores * n for n in (1, 2, 3, 4, 6, 8, 16))
    return tuple(sorted({n for n in (*tiles.divisors(machine.cores), *multiples) if n <= rows} | {1}))


def most_bands(bands: tuple[int, ...], machine: Cpu) -> int:
    """The most of them that are no more than the cores."""
    return max(n for n in bands if n <= machine.cores)


def depth_axis(layer: Conv2d, machine: Cpu) -> dict[str, tuple[int, ...]]:
    """How many input channels of a row may be loaded as one vector: where its lanes can be multiplied by."""
    by_lane = machine.multiplies_by_lane and not layer.multiplies_codes and layer.in_channels % machine.lanes == 0
    return {"depth": (1, machine.lanes)} if by_lane else {}


def bytes_of_weight(layer: Conv2d) -> int:
    """Of one; of one number of the data as well."""
    return NUMBER_TYPES[layer.dtype].bytes


def reduction_steps(layer: Conv2d, machine: Cpu) -> int:
    """Products that a lane adds up one after the other, as many as one multiply-add takes: of codes some are summed by
    one instruction, which takes two of them where the sum is an addition of its own."""
    if not layer.multiplies_codes:
        return layer.in_channels
    assert machine.dot is not None, layer
    return layer.in_channels // machine.dot.depth * (2 if machine.dot.widened else 1)


def worth_prefetching(machine: Cpu, layer: Conv2d) -> bool:
    """Whether a layer's weights come from beyond the second-level cache every time, and few rows use them."""
    weight_bytes = bytes_of_weight(layer) * layer.in_channels * layer.out_channels
    return weight_bytes > machine.l2_bytes // 16 and layer.rows // layer.batch < machine.costs.hiding_rows
