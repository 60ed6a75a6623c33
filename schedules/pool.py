"""Global average pooling: sums of rows, several channel vectors side by side.

    for task in parallel(batch x channel tiles):
        total[vectors, lanes] = 0                              in registers
        for y: row_sum[vectors, lanes] = sum over x; total += row_sum
        out = total / (height * width)

Where there are fewer channel tiles than cores, the sums of rows are shared out row by row first.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from effgen.kernels import tiles
from effgen.kernels.workload import GlobalAveragePool, Workload
from effgen.schedules.common import in_registers, schedule_of, split, unroll_tile, worth_a_launch
from effgen.target import Machine

# Additions are 3-4 cycles deep and two start in a cycle: so many vectors keep them busy.
_VECTORS = 8


@dataclass(frozen=True)
class PoolDecisions:
    """Channel vectors side by side; whether cores share the work; whether they share the rows, not the channels."""

    vectors: int
    parallel: bool
    by_rows: bool


def default_pool(workload: GlobalAveragePool, machine: Machine) -> PoolDecisions:
    """As many vectors as keep the adders busy, but no fewer tiles than cores if that can be had."""
    vectors = tiles.blocks(workload.channels, tiles.lanes(workload.channels, machine))
    size = 4 * workload.batch * workload.height * workload.width * workload.channels
    shared = worth_a_launch(machine, 0, size)

    def fits(width: int) -> bool:
        return width <= _VECTORS and (not shared or workload.batch * vectors // width >= machine.cores)

    width = max((d for d in tiles.divisors(vectors) if fits(d)), default=1)
    few = workload.batch * vectors // width < machine.cores
    return PoolDecisions(width, shared, by_rows=shared and few)


def apply_pool(schedule: Schedule, decisions: PoolDecisions) -> None:
    """Schedule blocks `row_sum`, `total` and `store` with these decisions."""
    b, c, lane = schedule.get_loops(schedule.get_sblock("store"))
    c_outer, c_inner = split(schedule, c, decisions.vectors)
    task = schedule.fuse(b, c_outer)
    unroll_tile(schedule, [c_inner, lane])
    if decisions.parallel and not decisions.by_rows:
        schedule.parallel(task)
    total, row_sum = schedule.get_sblock("total"), schedule.get_sblock("row_sum")
    in_registers(schedule, total, task)
    if decisions.by_rows:
        _row_sums_first(schedule, row_sum, decisions)
    else:
        y = schedule.get_loops(schedule.get_sblock("total_update"))[1]
        in_registers(schedule, row_sum, y)


def _row_sums_first(schedule: Schedule, row_sum: object, decisions: PoolDecisions) -> None:
    b, y, c, lane, x = schedule.get_loops(row_sum)
    c_outer, c_inner = split(schedule, c, decisions.vectors)
    schedule.reorder(b, y, c_outer, x, c_inner, lane)
    schedule.parallel(schedule.fuse(b, y, c_outer))
    unroll_tile(schedule, [c_inner, lane])
    schedule.decompose_reduction(row_sum, x)


def apply(func: PrimFunc, workload: Workload, machine: Machine) -> Schedule | None:
    """The rule: global average pooling."""
    if not isinstance(workload, GlobalAveragePool):
        return None
    schedule = schedule_of(func)
    apply_pool(schedule, default_pool(workload, machine))
    return schedule
