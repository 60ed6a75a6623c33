"""Any other function on a GPU: a thread for each element of every block's output, one after the other inside."""

from __future__ import annotations

from tvm.s_tir import ScheduleError
from tvm.tirx import PrimFunc

from effgen.kernels.cuda.builder import WARP
from effgen.machines.machine import Gpu
from effgen.schedules.common import DATA_PARALLEL, schedule_of

_THREADS = 8 * WARP


def schedule_any(func: PrimFunc, machine: Gpu) -> PrimFunc:
    """`func` with element-wise blocks inlined where they can be and the loops of the others bound to threads."""
    schedule = schedule_of(func)
    root = schedule.get_sblock("root")
    for block in schedule.get_child_blocks(root):
        try:
            schedule.compute_inline(block)
        except ScheduleError:
            continue
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        kinds = [variable.iter_type for variable in schedule.get(block).iter_vars]
        loops = schedule.get_loops(block)
        spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == DATA_PARALLEL]
        schedule.reorder(*spatial, *(loop for loop in loops if not any(loop.same_as(other) for other in spatial)))
        if not spatial:
            spatial = [schedule.add_unit_loop(block)]
        blocks, threads = schedule.split(schedule.fuse(*spatial), [None, _THREADS])
        schedule.bind(blocks, "blockIdx.x")
        schedule.bind(threads, "threadIdx.x")
    return schedule.mod["main"]
