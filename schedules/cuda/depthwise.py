"""Depthwise convolutions on a GPU: `effgen.kernels.cuda.depthwise`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product

from effgen.kernels import tiles
from effgen.kernels.cuda.builder import MOST_THREADS, VECTOR, WARP
from effgen.kernels.cuda.depthwise import WindowPlan, depthwise_primfunc
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.machines.machine import Gpu
from effgen.schedules.common import rule
from effgen.schedules.cuda.cost import LATENCY, launch_cycles
from effgen.schedules.space import Decisions, Space

#: Values that a thread may keep in registers.
_MOST_VALUES = 160


@rule(Conv2d, "depthwise")
def space(workload: Conv2d, machine: Gpu) -> Space | None:
    """The rule: depthwise convolutions of channels that vectors of four divide, in rows that one block can span.

    A residual is added last, to what the sums have been taken of.
    """
    if workload.in_channels % VECTOR or workload.activation_last:
        return None
    axes = {"rows": (1, 2, 4), "columns": (1, 2, 4, 7, 8, 16), "vectors": (1, 2, 4, 8, 16, 32, 64)}
    admits = partial(_admits, workload)
    points = [p for p in (dict(zip(axes, v, strict=True)) for v in product(*axes.values())) if admits(p)]
    if not points:
        return None
    return Space(
        rule="cuda_depthwise",
        axes=axes,
        default=min(points, key=partial(_cost, workload, machine)),
        build=lambda decisions: depthwise_primfunc(workload, machine, WindowPlan(**decisions)),
        admits=admits,
    )


def _values(workload: Conv2d, plan: WindowPlan) -> int:
    """float32 registers of a thread: sums, and one row of inputs."""
    width = (plan.columns - 1) * workload.stride[1] + workload.kernel[1]
    return VECTOR * (plan.rows * plan.columns + width)


def _admits(workload: Conv2d, decisions: Mapping[str, int]) -> bool:
    plan = WindowPlan(**decisions)
    fits_image = plan.rows < 2 * workload.out_height and plan.columns < 2 * workload.out_width
    fits_channels = plan.vectors < 2 * max(1, workload.in_channels // VECTOR)
    threads = plan.threads(workload)
    return fits_image and fits_channels and threads <= MOST_THREADS and _values(workload, plan) <= _MOST_VALUES


def _cost(workload: Conv2d, machine: Gpu, decisions: Decisions) -> float:
    plan, (kh, kw), (sh, sw) = WindowPlan(**decisions), workload.kernel, workload.stride
    blocks = workload.batch * tiles.blocks(workload.out_height, plan.rows)
    blocks *= tiles.blocks(workload.in_channels // VECTOR, plan.vectors)
    input_rows, input_columns = (plan.rows - 1) * sh + kh, (plan.columns - 1) * sw + kw
    outputs = plan.rows * plan.columns
    # Vector loads cost a warp sixteen cycles of the load unit, shared by four schedulers.
    work = VECTOR * outputs * kh * kw + 10 * input_rows * input_columns + 6 * kh * kw + 12 * VECTOR * outputs
    # Accesses narrower than a warp's cache lines waste what they fetch.
    narrow = max(1.0, WARP / 4 / plan.vectors)
    waits = LATENCY * (1 + input_rows / 3) + (LATENCY / 2 if workload.row_sums else 0)
    registers = 40 + _values(workload, plan)
    return launch_cycles(machine, blocks, plan.threads(workload), work * narrow, waits, registers)
