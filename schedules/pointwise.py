"""1x1 convolutions as a matrix product: data[M, K] x weight[N/lanes][K][lanes].

    for task in parallel(column chunks x row tiles x column tiles of a chunk):
        acc[rows, vectors, lanes] = bias                     in registers
        for k: for rows: for vectors: for lanes: acc += data[row, k] * weight[vector, k, lane]
        out = epilogue(acc)

A chunk of weights stays in the second-level cache while all rows pass by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from effgen.kernels import tiles
from effgen.kernels.workload import Conv2d, Workload
from effgen.schedules.common import in_registers, schedule_of, split, unroll_tile
from effgen.target import Machine


@dataclass(frozen=True)
class MatmulDecisions:
    """Register tile (`rows` x `vectors`), register tiles of columns in a chunk, and whether cores share the work."""

    rows: int
    vectors: int
    chunk: int
    parallel: bool = True


def default_pointwise(workload: Conv2d, machine: Machine) -> MatmulDecisions:
    """Tile from shape and registers; chunk from the sizes of both operands and the caches."""
    tile = tiles.row_tile(workload, machine)
    width = tiles.lanes(workload.out_channels, machine)
    column_tiles = tiles.blocks(workload.out_channels, width) // tile.vectors
    depth_bytes = workload.in_channels * 4
    data, weight = workload.rows * depth_bytes, workload.out_channels * depth_bytes
    if data <= machine.l2_bytes // 2 and weight > data:
        # The data stays in cache and the weights are read once: each core has its own columns.
        return MatmulDecisions(tile.rows, tile.vectors, 1)
    panel = tile.vectors * width * depth_bytes
    fits = [n for n in tiles.divisors(column_tiles) if n * panel <= machine.l2_bytes // 2]
    return MatmulDecisions(tile.rows, tile.vectors, max(fits, default=1))


def apply_matmul(schedule: Schedule, decisions: MatmulDecisions) -> None:
    """Schedule blocks `acc` and `store` of a matrix product with these decisions."""
    store = schedule.get_sblock("store")
    m, n, lane = schedule.get_loops(store)
    m_outer, m_inner = split(schedule, m, decisions.rows)
    n_outer, n_chunk, n_inner = split(schedule, n, decisions.chunk, decisions.vectors)
    schedule.reorder(n_outer, m_outer, n_chunk, m_inner, n_inner, lane)
    task = schedule.fuse(n_outer, m_outer, n_chunk)
    unroll_tile(schedule, [m_inner, n_inner, lane])
    if decisions.parallel:
        schedule.parallel(task)
    in_registers(schedule, schedule.get_sblock("acc"), task)


def apply(func: PrimFunc, workload: Workload, machine: Machine) -> Schedule | None:
    """The rule: pointwise convolutions."""
    if not isinstance(workload, Conv2d) or workload.family != "pointwise":
        return None
    schedule = schedule_of(func)
    apply_matmul(schedule, default_pointwise(workload, machine))
    return schedule
