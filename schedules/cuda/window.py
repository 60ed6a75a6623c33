"""The stem and other dense windows on a GPU: `effgen.kernels.cuda.window`."""

from __future__ import annotations

from functools import partial
from itertools import product

from effgen.kernels import tiles
from effgen.kernels.cuda.builder import VECTOR
from effgen.kernels.cuda.window import StripPlan, window_primfunc
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.machines.machine import Gpu
from effgen.schedules.common import rule
from effgen.schedules.cuda.cost import LATENCY, launch_cycles
from effgen.schedules.space import Decisions, Space


@rule(Conv2d)
def space(workload: Conv2d, machine: Gpu) -> Space | None:
    """The rule: convolutions of one group that no better rule takes, of channels that vectors of four divide."""
    if workload.groups != 1 or workload.gated or workload.out_channels % VECTOR:
        return None
    axes = {"columns": (1, 2, 4, 8), "threads": (64, 128, 256)}
    points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    return Space(
        rule="cuda_window",
        axes=axes,
        default=min(points, key=partial(_cost, workload, machine)),
        build=lambda decisions: window_primfunc(workload, machine, StripPlan(**decisions)),
    )


def _cost(workload: Conv2d, machine: Gpu, decisions: Decisions) -> float:
    plan = StripPlan(**decisions)
    strips = tiles.blocks(workload.out_width, plan.columns)
    total = workload.batch * workload.out_height * strips * (workload.out_channels // VECTOR)
    taps = workload.in_channels * workload.kernel[0] * workload.kernel[1]
    work = taps * (plan.columns * (VECTOR + 4) + 6) + 12 * VECTOR * plan.columns
    blocks = tiles.blocks(total, plan.threads)
    return launch_cycles(machine, blocks, plan.threads, work, LATENCY * (2 + taps / 8), 40 + 6 * plan.columns)
