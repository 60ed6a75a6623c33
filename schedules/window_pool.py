"""Maximum and mean of windows: `effgen.kernels.pooling`. Rows are shared out, and channels where rows are few."""

from __future__ import annotations

from tvm.tirx import PrimFunc

from effgen.kernels import tiles
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.kernels.pooling import PoolPlan, pool2d_primfunc, vector_lanes
from effgen.machines.machine import Cpu
from effgen.schedules.common import rule, worth_a_launch
from effgen.schedules.space import Decisions, Space


@rule(Pool2d)
def space(workload: Pool2d, machine: Cpu) -> Space:
    """The rule: pooling by windows."""
    blocks = tiles.blocks(workload.channels, vector_lanes(workload.channels, machine))
    axes = {
        # More than keep the units busy gain nothing.
        "vectors": tuple(d for d in tiles.divisors(blocks) if d <= machine.costs.chain),
        "chunks": tuple(sorted({1, min(2, blocks), min(machine.cores, blocks)})),
        "parallel": (0, 1),
    }
    return Space(
        rule="window_pool",
        axes=axes,
        default=_default(workload, machine, blocks),
        build=lambda decisions: _build(workload, machine, decisions),
        admits=lambda decisions: decisions["vectors"] * decisions["chunks"] <= blocks,
    )


def _default(workload: Pool2d, machine: Cpu, blocks: int) -> dict[str, int]:
    taps = workload.kernel[0] * workload.kernel[1]
    values = taps * workload.batch * workload.out_shape[1] * workload.out_shape[2] * workload.channels
    parallel = worth_a_launch(machine, values, workload.bytes)
    return {"vectors": tiles.largest_divisor(blocks, machine.costs.chain), "chunks": 1, "parallel": int(parallel)}


def _build(workload: Pool2d, machine: Cpu, decisions: Decisions) -> PrimFunc:
    plan = PoolPlan(decisions["vectors"], decisions["chunks"], bool(decisions["parallel"]))
    return pool2d_primfunc(workload, machine, plan)
