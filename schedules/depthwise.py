"""Depthwise convolutions, one vector of channels at a time.

for task in parallel(batch x bands of output rows x channel vectors):
    image = padded copy of the band's input, lanes innermost
    for y in band: for column tiles:
        acc[columns, lanes] = bias                        in registers
        for ky, kx: for columns: for lanes: acc += image[..] * weight[ky, kx, lane]     all unrolled
        out = epilogue(acc)
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from effgen.kernels import tiles
from effgen.kernels.workload import Conv2d, Workload
from effgen.schedules.common import in_registers, loops_below, schedule_of, split, unroll_tile
from effgen.target import Machine


@dataclass(frozen=True)
class DepthwiseDecisions:
    """Output rows in a band, output columns in a register tile, and whether the padded band lives on the stack.

    (Besides saving a workspace, an aligned array there makes LLVM align what it spills: an unaligned spilled vector
    straddles two cache lines and costs twice.)
    """

    rows: int
    columns: int
    on_stack: bool


def default_depthwise(workload: Conv2d, machine: Machine) -> DepthwiseDecisions:
    """Columns from the registers, rows from caches, copying and the number of cores."""
    tile = tiles.window_tile(workload, machine)
    width = tiles.lanes(workload.out_channels, machine)
    band_bytes = tiles.padded_rows(workload, tile.rows) * tiles.padded_row_bytes(workload, width)
    return DepthwiseDecisions(tile.rows, tile.columns, tiles.fits_stack(band_bytes, machine))


def apply_depthwise(schedule: Schedule, decisions: DepthwiseDecisions) -> None:
    """Schedule blocks `pad`, `acc` and `store` with these decisions."""
    store, acc, pad = (schedule.get_sblock(name) for name in ("store", "acc", "pad"))
    b, c, y, x, lane = schedule.get_loops(store)
    y_outer, y_inner = split(schedule, y, decisions.rows)
    x_outer, x_inner = split(schedule, x, decisions.columns)
    schedule.reorder(b, y_outer, c, y_inner, x_outer, x_inner, lane)
    task = schedule.fuse(b, y_outer, c)
    schedule.parallel(task)
    unroll_tile(schedule, [x_inner, lane])
    for tap in in_registers(schedule, acc, x_outer):
        schedule.unroll(tap)
    schedule.compute_at(pad, task, preserve_unit_loops=True)
    if decisions.on_stack:
        schedule.set_scope(pad, 0, "local")
    schedule.vectorize(loops_below(schedule, pad, task)[-1])


def apply(func: PrimFunc, workload: Workload, machine: Machine) -> Schedule | None:
    """The rule: depthwise convolutions."""
    if not isinstance(workload, Conv2d) or workload.family != "depthwise":
        return None
    schedule = schedule_of(func)
    apply_depthwise(schedule, default_depthwise(workload, machine))
    return schedule
