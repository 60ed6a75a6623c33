"""Squeeze-excite's gate on a GPU: `effgen.kernels.cuda.squeeze_excite`."""

from __future__ import annotations

from itertools import product

from effgen.kernels import tiles
from effgen.kernels.cuda.squeeze_excite import ExcitePlan, squeeze_excite_primfunc
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.machines.machine import Gpu
from effgen.schedules.common import rule
from effgen.schedules.cuda.cost import LATENCY, launch_cycles
from effgen.schedules.space import Decisions, Space


@rule(SqueezeExcite)
def space(workload: SqueezeExcite, machine: Gpu) -> Space:
    """The rule: squeeze-excite."""
    axes = {"blocks": (1, 2, 4, 8, 16, 32), "threads": (64, 128, 256, 512)}
    points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    return Space(
        rule="cuda_squeeze_excite",
        axes=axes,
        default=min(points, key=lambda decisions: _cost(workload, machine, decisions)),
        build=lambda decisions: squeeze_excite_primfunc(workload, machine, ExcitePlan(**decisions)),
    )


def _cost(workload: SqueezeExcite, machine: Gpu, decisions: Decisions) -> float:
    plan = ExcitePlan(**decisions)
    turns = tiles.blocks(workload.channels, plan.threads)
    slices = max(1, plan.threads // (tiles.blocks(workload.squeezed, 8) * 8))
    share = tiles.blocks(tiles.blocks(workload.channels, plan.blocks), plan.threads)
    steps = turns * workload.height + workload.channels / slices + slices + share * workload.squeezed
    # Loads in a row that do not wait for each other overlap some eight deep.
    return launch_cycles(machine, workload.batch * plan.blocks, plan.threads, 4 * steps, LATENCY * (3 + steps / 8))
