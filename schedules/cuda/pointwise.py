"""1x1 convolutions and dense layers on a GPU's float32 units: `effgen.kernels.cuda.matmul`."""

from __future__ import annotations

from functools import partial
from itertools import product

from effgen.kernels import tiles
from effgen.kernels.cuda.builder import VECTOR
from effgen.kernels.cuda.matmul import TilePlan, matmul_primfunc
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import bias_shape
from effgen.machines.machine import Gpu
from effgen.schedules.common import rule
from effgen.schedules.cuda.cost import LATENCY, launch_cycles
from effgen.schedules.space import Decisions, Space

#: Static shared memory that every GPU gives a block.
STATIC_SHARED_BYTES = 48 * 1024
#: Sums that a thread keeps in registers.
_MOST_SUMS = 64
#: Vectors that a thread holds while they are on their way to shared memory.
_MOST_FETCHED = 8
_THREADS = (32, 512)


@rule(Conv2d, "pointwise", "dense")
def space(workload: Conv2d, machine: Gpu) -> Space | None:
    """The rule: pointwise and dense convolutions, of channels that vectors of four divide and that fill a tile."""
    if workload.in_channels % VECTOR:
        return None
    axes = {
        "rows": (1, 2, 4, 8),
        "columns": (4, 8),
        "threads_m": (1, 2, 4, 8, 16),
        "threads_n": (2, 4, 8, 16, 32),
        "depth": (8, 16, 32, 64, 128),
        "slices": (1, 2, 4, 8, 16),
    }
    admits = partial(_admits, workload, machine)
    points = (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))
    admitted = [point for point in points if admits(point)]
    if not admitted:
        return None
    return Space(
        rule="cuda_pointwise",
        axes=axes,
        default=min(admitted, key=partial(_cost, workload, machine)),
        build=lambda decisions: matmul_primfunc(workload, machine, TilePlan(**decisions)),
        admits=admits,
    )


def _admits(workload: Conv2d, machine: Gpu, decisions: Decisions) -> bool:
    plan = TilePlan(**decisions)
    if plan.depth % plan.slices or not _THREADS[0] <= plan.threads <= _THREADS[1]:
        return False
    if plan.rows * plan.columns > _MOST_SUMS or plan.shared_bytes > STATIC_SHARED_BYTES:
        return False
    fetched = sum(tiles.blocks(n * plan.depth, VECTOR * plan.threads) for n in (plan.tile_m, plan.tile_n))
    if fetched > _MOST_FETCHED or plan.depth >= 2 * workload.in_channels:
        return False
    width = bias_shape(workload, machine)[1]
    # No more of a tile beyond the end than within it.
    return plan.tile_n < 2 * max(width, VECTOR) and plan.tile_m < 2 * _rows(workload)


def _rows(workload: Conv2d) -> int:
    """Rows that tiles are made of: a gate differs from image to image."""
    return workload.rows // workload.batch if workload.gated else workload.rows


def _cost(workload: Conv2d, machine: Gpu, decisions: Decisions) -> float:
    plan = TilePlan(**decisions)
    images = workload.batch if workload.gated else 1
    blocks = images * tiles.blocks(_rows(workload), plan.tile_m)
    blocks *= tiles.blocks(bias_shape(workload, machine)[1], plan.tile_n)
    sums = plan.rows * plan.columns
    depth_tiles = tiles.blocks(workload.in_channels, plan.depth)
    # A step of the reduction: multiply-adds, and vectors read from shared memory, which take a warp several cycles.
    step = sums + 4 * tiles.blocks(plan.rows, VECTOR) + 8 * plan.columns // VECTOR
    moved = plan.depth * (plan.tile_m + plan.tile_n) / VECTOR / plan.threads
    tile = step * plan.depth / plan.slices + 6 * moved + 20
    work = depth_tiles * tile + sums * (6 + plan.slices)
    # The next tile is on its way while this one is worked on.
    waits = LATENCY + depth_tiles * max(60.0, LATENCY - tile)
    return launch_cycles(machine, blocks, plan.threads, work, waits, registers=32 + 2 * sums)
