"""1x1 convolutions and dense layers in float16 on a GPU's tensor cores: `effgen.kernels.cuda.tensor_core`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product

from effgen.kernels import tiles
from effgen.kernels.cuda.builder import MOST_THREADS
from effgen.kernels.cuda.tensor_core import FRAGMENT, HALVES, FragmentPlan, tensor_core_primfunc
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import bias_shape
from effgen.machines.machine import Gpu
from effgen.schedules.common import rule
from effgen.schedules.cuda.cost import LATENCY, launch_cycles
from effgen.schedules.cuda.pointwise import STATIC_SHARED_BYTES
from effgen.schedules.space import Decisions, Space

#: Fragments of sums that a warp keeps in registers (8 registers a thread each).
_MOST_FRAGMENTS = 8
#: Rows below which a fragment is mostly empty.
_FEW_ROWS = 8


@rule(Conv2d, "pointwise", "dense")
def space(workload: Conv2d, machine: Gpu) -> Space | None:
    """The rule: float16, enough rows, channels that vectors of eight divide."""
    if workload.dtype != "float16" or workload.in_channels % HALVES or _rows(workload) < _FEW_ROWS:
        return None
    axes = {
        "rows": (1, 2, 4),
        "columns": (1, 2, 4),
        "warps_m": (1, 2, 4, 8),
        "warps_n": (1, 2, 4),
        "depth": (1, 2, 4),
    }
    return Space(
        rule="cuda_tensor_core",
        axes=axes,
        default=_default(workload, machine, axes),
        build=lambda decisions: tensor_core_primfunc(workload, machine, FragmentPlan(**decisions)),
        admits=partial(_admits, workload, machine),
    )


def _rows(workload: Conv2d) -> int:
    return workload.rows // workload.batch if workload.gated else workload.rows


def _admits(workload: Conv2d, machine: Gpu, decisions: Decisions) -> bool:
    plan = FragmentPlan(**decisions)
    if plan.threads > MOST_THREADS // 2 or plan.rows * plan.columns > _MOST_FRAGMENTS:
        return False
    if plan.shared_bytes > STATIC_SHARED_BYTES:
        return False
    width = bias_shape(workload, machine)[1]
    return plan.tile_n < 2 * max(width, FRAGMENT) and plan.tile_m < 2 * max(_rows(workload), FRAGMENT)


def _default(workload: Conv2d, machine: Gpu, axes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    points = (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))
    return min((p for p in points if _admits(workload, machine, p)), key=partial(_cost, workload, machine))


def _cost(workload: Conv2d, machine: Gpu, decisions: Decisions) -> float:
    plan = FragmentPlan(**decisions)
    blocks = (workload.batch if workload.gated else 1) * tiles.blocks(_rows(workload), plan.tile_m)
    blocks *= tiles.blocks(bias_shape(workload, machine)[1], plan.tile_n)
    depth_tiles = tiles.blocks(workload.in_channels, plan.tile_k)
    # A fragment's product keeps a tensor core busy for about 16 cycles; loading fragments takes about as long each.
    tile = float(plan.depth) * (16 * plan.rows * plan.columns + 16 * (plan.rows + plan.columns))
    tile += 8 * plan.tile_k * (plan.tile_m + plan.tile_n) / HALVES / plan.threads + 30
    work = depth_tiles * tile + 20 * plan.tile_m * plan.tile_n / plan.threads
    waits = LATENCY + depth_tiles * max(60.0, LATENCY - tile)
    return launch_cycles(machine, blocks, plan.threads, work, waits, 40 + 8 * plan.rows * plan.columns)
