"""Global average pooling: sums of rows, several channel vectors side by side.

    for task in parallel(batch x channel tiles):
        total[vectors, lanes] = 0                              in registers
        for y: row_sum[vectors, lanes] = sum over x; total += row_sum
        out = total / (height * width)

Where there are fewer channel tiles than cores, the sums of rows are shared out row by row first.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from effgen.kernels import tiles
from effgen.kernels.compute import average_pool_primfunc
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.machines.machine import Cpu
from effgen.schedules.common import in_registers, rule, schedule_of, scheduled, split, unroll_tile, worth_a_launch
from effgen.schedules.space import Decisions, Space

# What cores share: nothing, channel vectors, or the rows of an image.
_NOTHING, _VECTORS, _ROWS = 0, 1, 2


@rule(GlobalAveragePool)
def space(workload: GlobalAveragePool, machine: Cpu) -> Space:
    """The rule: global average pooling."""
    blocks = tiles.blocks(workload.channels, machine.lanes_of(workload.channels))
    axes = {
        # More than keep the adders busy gain nothing.
        "vectors": tuple(d for d in tiles.divisors(blocks) if d <= machine.costs.chain),
        "shared": (_NOTHING, _VECTORS, _ROWS),
    }
    return Space(
        rule="pool",
        axes=axes,
        default=_default(workload, machine, axes["vectors"]),
        build=lambda decisions: _build(workload, machine, decisions),
    )


def _default(workload: GlobalAveragePool, machine: Cpu, widths: tuple[int, ...]) -> dict[str, int]:
    """As many vectors as keep the adders busy, but no fewer tiles than cores if that can be had."""
    blocks = tiles.blocks(workload.channels, machine.lanes_of(workload.channels))
    shared = worth_a_launch(machine, 0, workload.bytes)
    enough = [d for d in widths if not shared or workload.batch * blocks // d >= machine.cores]
    width = max(enough, default=1)
    few = workload.batch * blocks // width < machine.cores
    return {"vectors": width, "shared": _NOTHING if not shared else _ROWS if few else _VECTORS}


def _build(workload: GlobalAveragePool, machine: Cpu, decisions: Decisions) -> PrimFunc:
    schedule = schedule_of(average_pool_primfunc(workload, machine))
    _apply(schedule, decisions["vectors"], decisions["shared"])
    return scheduled(schedule, workload.name)


def _apply(schedule: Schedule, vectors: int, shared: int) -> None:
    """Schedule blocks `row_sum`, `total` and `store`."""
    b, c, lane = schedule.get_loops(schedule.get_sblock("store"))
    c_outer, c_inner = split(schedule, c, vectors)
    task = schedule.fuse(b, c_outer)
    unroll_tile(schedule, [c_inner, lane])
    if shared == _VECTORS:
        schedule.parallel(task)
    total, row_sum = schedule.get_sblock("total"), schedule.get_sblock("row_sum")
    in_registers(schedule, total, task)
    if shared == _ROWS:
        _row_sums_first(schedule, row_sum, vectors)
    else:
        y = schedule.get_loops(schedule.get_sblock("total_update"))[1]
        in_registers(schedule, row_sum, y)


def _row_sums_first(schedule: Schedule, row_sum: object, vectors: int) -> None:
    b, y, c, lane, x = schedule.get_loops(row_sum)
    c_outer, c_inner = split(schedule, c, vectors)
    schedule.reorder(b, y, c_outer, x, c_inner, lane)
    schedule.parallel(schedule.fuse(b, y, c_outer))
    unroll_tile(schedule, [c_inner, lane])
    schedule.decompose_reduction(row_sum, x)
