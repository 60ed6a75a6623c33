"""Dense windows: a stem that no depthwise convolution follows, fused MBConv, 3x3 layers, strided 1x1.

for task in parallel(batch x column chunks x bands of output rows):
    image = padded copy of the band's input              (where the convolution has padding)
    for vector tiles of the chunk: for y in band: for column tiles:
        acc[columns, vectors, lanes] = bias              in registers
        for ky, kx, k: for columns: for vectors: for lanes: acc += image[..] * weight[..]
        out = epilogue(acc)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from effgen.kernels import tiles
from effgen.kernels.compute import conv2d_primfunc
from effgen.kernels.packing import bias_shape, weight_shape
from effgen.kernels.workload import Conv2d, Workload
from effgen.schedules.common import bands_for, in_registers, schedule_of, scheduled, split, unroll_tile
from effgen.schedules.space import Decisions, Space
from effgen.target import Machine

# What a core gets of weights in a cycle, beside what hides behind the multiply-adds.
_NEAR_BYTES_PER_CYCLE, _FAR_BYTES_PER_CYCLE = 64, 24


def space(workload: Workload, machine: Machine) -> Space | None:
    """The rule: convolutions of one group that are no plain matrix product."""
    if not isinstance(workload, Conv2d) or workload.family != "conv2d":
        return None
    axes = _axes(workload, machine)
    return Space(
        rule="conv2d",
        axes=axes,
        default=_default(workload, machine, axes),
        build=partial(_build, workload, machine),
        admits=partial(_admits, workload, machine),
    )


def _axes(workload: Conv2d, machine: Machine) -> dict[str, tuple[int, ...]]:
    blocks = bias_shape(workload, machine)[0]
    columns = range(1, min(workload.out_width, machine.vector_registers) + 1)
    return {
        "bands": tuple(sorted({*bands_for(workload.out_height, machine), workload.out_height})),
        "columns": tuple(n for n in columns if tiles.fits_registers(n, 1, machine)),
        "vectors": tuple(d for d in tiles.divisors(blocks) if tiles.fits_registers(1, d, machine)),
        "chunks": tuple(tiles.divisors(blocks)),
    }


def _admits(workload: Conv2d, machine: Machine, decisions: Decisions) -> bool:
    column_tiles = bias_shape(workload, machine)[0] // decisions["vectors"]
    fits = tiles.fits_registers(decisions["columns"], decisions["vectors"], machine)
    return fits and column_tiles % decisions["chunks"] == 0


def _default(workload: Conv2d, machine: Machine, axes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Everything of least estimated time: the register tile first, then the shares."""
    fitting = [
        {"bands": 1, "chunks": 1, "columns": columns, "vectors": vectors}
        for columns in axes["columns"]
        for vectors in axes["vectors"]
        if tiles.fits_registers(columns, vectors, machine)
    ]
    tile = min(fitting, key=partial(_row_cycles, workload, machine))
    shares = [tile | {"bands": b, "chunks": c} for b in axes["bands"] for c in axes["chunks"]]
    return min(
        (decisions for decisions in shares if _admits(workload, machine, decisions)),
        key=partial(_cost, workload, machine),
    )


def _row_cycles(workload: Conv2d, machine: Machine, decisions: Decisions) -> float:
    """Estimated cycles of one output row, all channels of a chunk."""
    blocks = bias_shape(workload, machine)[0] // decisions["chunks"]
    depth = workload.in_channels * workload.kernel[0] * workload.kernel[1]
    count = tiles.blocks(workload.out_width, decisions["columns"]) * (blocks / decisions["vectors"])
    return count * tiles.tile_cycles(decisions["columns"], decisions["vectors"], depth, workload.activation)


def _cost(workload: Conv2d, machine: Machine, decisions: Decisions) -> float:
    """Estimated cycles of the busiest core."""
    rows = tiles.blocks(workload.out_height, decisions["bands"])
    tasks = workload.batch * decisions["chunks"] * tiles.blocks(workload.out_height, rows)
    copied = tiles.padded_rows(workload, rows) * tiles.padded_row_bytes(workload, workload.in_channels)
    task = rows * _row_cycles(workload, machine, decisions) + tiles.copy_cycles(copied, machine)
    return tiles.turns(tasks, machine) * (task + _fetch_cycles(workload, machine, decisions))


def _fetch_cycles(workload: Conv2d, machine: Machine, decisions: Decisions) -> float:
    """Estimated cycles that one task waits for its weights: all of its chunk's, however many rows use them."""
    size = 4 * math.prod(weight_shape(workload, machine))
    # Those of a small layer are near from the task before.
    rate = _NEAR_BYTES_PER_CYCLE if size <= machine.l2_bytes // 2 else _FAR_BYTES_PER_CYCLE
    return size / decisions["chunks"] / rate


def _build(workload: Conv2d, machine: Machine, decisions: Decisions) -> PrimFunc:
    rows = tiles.blocks(workload.out_height, decisions["bands"])
    schedule = schedule_of(conv2d_primfunc(workload, machine, rows, decisions["columns"]))
    chunk = bias_shape(workload, machine)[0] // decisions["vectors"] // decisions["chunks"]
    _apply(schedule, rows, decisions["columns"], decisions["vectors"], chunk, padded=any(workload.padding))
    return scheduled(schedule, workload.name)


def _apply(schedule: Schedule, rows: int, columns: int, vectors: int, chunk: int, padded: bool) -> None:
    """Schedule blocks `pad` (if any), `acc` and `store`."""
    store = schedule.get_sblock("store")
    b, y, x, n, lane = schedule.get_loops(store)
    y_outer, y_inner = split(schedule, y, rows)
    x_outer, x_inner = split(schedule, x, columns)
    n_outer, n_chunk, n_inner = split(schedule, n, chunk, vectors)
    schedule.reorder(b, n_outer, y_outer, n_chunk, y_inner, x_outer, x_inner, n_inner, lane)
    task = schedule.fuse(b, n_outer, y_outer)
    schedule.parallel(task)
    unroll_tile(schedule, [x_inner, n_inner, lane])
    in_registers(schedule, schedule.get_sblock("acc"), x_outer)
    if padded:
        schedule.compute_at(schedule.get_sblock("pad"), task, preserve_unit_loops=True)
