"""Dense windows: the stem, fused MBConv, 3x3 layers, strided 1x1.

for task in parallel(batch x column chunks x bands of output rows):
    image = padded copy of the band's input              (where the convolution has padding)
    for vector tiles of the chunk: for y in band: for column tiles:
        acc[columns, vectors, lanes] = bias              in registers
        for ky, kx, k: for columns: for vectors: for lanes: acc += image[..] * weight[..]
        out = epilogue(acc)
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
class Conv2dDecisions:
    """Band and register tile; register tiles of output channels in one task; whether there is a padded copy."""

    rows: int
    columns: int
    vectors: int
    chunk: int
    padded: bool


def default_conv2d(workload: Conv2d, machine: Machine) -> Conv2dDecisions:
    """Bands as tall as the caches and the number of cores allow; channels are shared out where bands are few."""
    tile = tiles.window_tile(workload, machine)
    width = tiles.lanes(workload.out_channels, machine)
    column_tiles = tiles.blocks(workload.out_channels, width) // tile.vectors
    bands = workload.batch * tiles.blocks(workload.out_height, tile.rows)

    def idle(chunks: int) -> float:
        turns = tiles.blocks(bands * chunks, machine.cores)
        return turns * machine.cores / (bands * chunks) - 1

    enough = [n for n in tiles.divisors(column_tiles) if idle(n) < 0.1]
    chunks = enough[0] if enough else min(tiles.divisors(column_tiles), key=idle)
    return Conv2dDecisions(tile.rows, tile.columns, tile.vectors, column_tiles // chunks, any(workload.padding))


def apply_conv2d(schedule: Schedule, decisions: Conv2dDecisions) -> None:
    """Schedule blocks `pad` (if any), `acc` and `store` with these decisions."""
    store = schedule.get_sblock("store")
    b, y, x, n, lane = schedule.get_loops(store)
    y_outer, y_inner = split(schedule, y, decisions.rows)
    x_outer, x_inner = split(schedule, x, decisions.columns)
    n_outer, n_chunk, n_inner = split(schedule, n, decisions.chunk, decisions.vectors)
    schedule.reorder(b, n_outer, y_outer, n_chunk, y_inner, x_outer, x_inner, n_inner, lane)
    task = schedule.fuse(b, n_outer, y_outer)
    schedule.parallel(task)
    unroll_tile(schedule, [x_inner, n_inner, lane])
    in_registers(schedule, schedule.get_sblock("acc"), x_outer)
    if decisions.padded:
        schedule.compute_at(schedule.get_sblock("pad"), task, preserve_unit_loops=True)


def apply(func: PrimFunc, workload: Workload, machine: Machine) -> Schedule | None:
    """The rule: convolutions of one group that are no plain matrix product."""
    if not isinstance(workload, Conv2d) or workload.family != "conv2d":
        return None
    schedule = schedule_of(func)
    apply_conv2d(schedule, default_conv2d(workload, machine))
    return schedule
