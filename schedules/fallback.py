"""Any other function: whatever is element by element is inlined, then each block is shared out and vectorised; one that
moves axes by tiles (`effgen.schedules.transposition`).

Vectors are of neighbouring outputs, or, where what is summed up lies side by side, of partial sums of one output.

Nothing here may fail: a step that TVM refuses for a block is left out for that block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm.s_tir import Schedule, ScheduleError
from tvm.tirx import IntImm, PrimFunc

from effgen.machines.machine import Cpu
from effgen.schedules.common import DATA_PARALLEL, Handle, loops_below, schedule_of, split, worth_a_launch
from effgen.schedules.transposition import is_transposition, tile


def schedule_any(func: PrimFunc, machine: Cpu) -> PrimFunc:
    """`func` with its element-wise blocks inlined and every other block parallel and vectorised where it can be."""
    schedule = schedule_of(func)
    for inline in (_inline, _inline_into_producer):
        for name in _block_names(schedule):
            _attempt(schedule, inline, name)
    steps = (_sum_rows, partial(_spread, vectors=True), partial(_spread, vectors=False))
    for name in _block_names(schedule):
        tiled = (tile,) if is_transposition(schedule, name) else ()
        next((step for step in (*tiled, *steps) if _attempt(schedule, partial(step, machine=machine), name)), None)
    return schedule.mod["main"]


class _UnfitError(Exception):
    """A step is not for this block."""


def _attempt(schedule: Schedule, step: Callable[[Schedule, str], None], name: str) -> bool:
    """Take `step` with the block of this name, or leave the schedule as it was."""
    try:
        step(schedule.copy(), name)
    except (ScheduleError, _UnfitError):
        return False
    step(schedule, name)
    return True


def _inline(schedule: Schedule, name: str) -> None:
    schedule.compute_inline(schedule.get_sblock(name))


def _inline_into_producer(schedule: Schedule, name: str) -> None:
    schedule.reverse_compute_inline(schedule.get_sblock(name))


def _block_names(schedule: Schedule) -> list[str]:
    root = schedule.get_sblock("root")
    return [schedule.get(block).name_hint for block in schedule.get_child_blocks(root)]


def _sum_rows(schedule: Schedule, name: str, machine: Cpu) -> None:
    """A reduction of numbers that lie side by side: a vector of partial results of each output, joined at its end."""
    block = schedule.get_sblock(name)
    loops, variables = list(schedule.get_loops(block)), schedule.get(block).iter_vars
    kinds = [variable.iter_type for variable in variables]
    spatial = [loop for loop, kind in zip(loops, kinds, strict=False) if kind == DATA_PARALLEL]
    reduction = loops[len(spatial) :]
    extent = schedule.get(loops[-1]).extent if loops else None
    if len(kinds) != len(loops) or not spatial or not reduction or kinds[len(spatial) - 1] != DATA_PARALLEL:
        raise _UnfitError
    if not isinstance(extent, IntImm) or int(extent) % (width := machine.lanes_of(int(extent))):
        raise _UnfitError
    if not any(read.region[-1].min.same_as(variables[-1].var) for read in schedule.get(block).reads):
        raise _UnfitError
    work = _iterations(schedule, loops)
    lane = split(schedule, loops[-1], width)[1]
    sums = schedule.rfactor(lane, factor_axis=len(schedule.get(block).writes[0].region))
    loops = list(schedule.get_loops(sums))
    output = schedule.fuse(*loops[: len(spatial)]) if len(spatial) > 1 else loops[0]
    schedule.reverse_compute_at(block, output)
    schedule.set_scope(sums, 0, "local")
    schedule.vectorize(loops[-1])
    if worth_a_launch(machine, work, 4 * work):
        schedule.parallel(output)
    schedule.decompose_reduction(sums, loops[len(spatial)])
    schedule.decompose_reduction(block, loops_below(schedule, block, output)[-1])


def _spread(schedule: Schedule, name: str, machine: Cpu, vectors: bool) -> None:
    """Spatial loops outside and parallel, reductions inside, the last spatial loop innermost as a vector."""
    block = schedule.get_sblock(name)
    loops = list(schedule.get_loops(block))
    kinds = [variable.iter_type for variable in schedule.get(block).iter_vars]
    if len(kinds) != len(loops):
        # Loops that are not the block's own axes one by one: all that is known to be safe is the outermost.
        schedule.parallel(loops[0])
        return
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == DATA_PARALLEL]
    reduction = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != DATA_PARALLEL]
    if not spatial:
        return
    work = _iterations(schedule, loops)
    lane = _vector_loop(schedule, spatial, machine) if vectors else []
    schedule.reorder(*spatial, *reduction, *lane)
    if not lane and not reduction and len(spatial) > 1:
        # LLVM makes vectors of a loop of its own, and of what it leaves.
        spatial = spatial[:-1]
    outer = schedule.fuse(*spatial) if len(spatial) > 1 else spatial[0]
    if worth_a_launch(machine, work, 4 * work):
        schedule.parallel(outer)
    if lane:
        schedule.vectorize(lane[0])
    if reduction:
        schedule.decompose_reduction(block, reduction[0])


def _vector_loop(schedule: Schedule, spatial: list[Handle], machine: Cpu) -> list[Handle]:
    """Cut one vector off the last spatial loop, which is replaced in `spatial`; nothing where it leaves a rest."""
    extent = schedule.get(spatial[-1]).extent
    if not isinstance(extent, IntImm) or int(extent) % (width := machine.lanes_of(int(extent))):
        return []
    spatial[-1], lane = split(schedule, spatial[-1], width)
    return [lane]


def _iterations(schedule: Schedule, loops: list[Handle]) -> int:
    """Iterations of a loop nest; an unknown extent counts as many."""
    count = 1
    for loop in loops:
        extent = schedule.get(loop).extent
        count *= int(extent) if isinstance(extent, IntImm) else 1024
    return count
