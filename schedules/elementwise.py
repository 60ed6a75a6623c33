"""Squeeze-excite's scale: every position of an image times the gate of its channel.

for position in parallel(batch x height x width): for channel vectors: out = data * gate
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from effgen.kernels import tiles
from effgen.kernels.workload import ChannelScale, Workload
from effgen.schedules.common import schedule_of, split, worth_a_launch
from effgen.target import Machine


@dataclass(frozen=True)
class ScaleDecisions:
    """Lanes of one step over the channels, and whether cores share the positions."""

    lanes: int
    parallel: bool


def default_scale(workload: ChannelScale, machine: Machine) -> ScaleDecisions:
    """The widest vector that leaves no rest (1 is left to LLVM's own vectoriser)."""
    width = tiles.lanes(workload.channels, machine)
    size = 8 * workload.batch * workload.height * workload.width * workload.channels
    return ScaleDecisions(width if workload.channels % width == 0 else 1, worth_a_launch(machine, 0, size))


def apply_scale(schedule: Schedule, decisions: ScaleDecisions) -> None:
    """Schedule block `store` with these decisions."""
    b, y, x, c = schedule.get_loops(schedule.get_sblock("store"))
    position = schedule.fuse(b, y, x)
    if decisions.lanes > 1:
        schedule.vectorize(split(schedule, c, decisions.lanes)[1])
    if decisions.parallel:
        schedule.parallel(position)


def apply(func: PrimFunc, workload: Workload, machine: Machine) -> Schedule | None:
    """The rule: squeeze-excite's scale."""
    if not isinstance(workload, ChannelScale):
        return None
    schedule = schedule_of(func)
    apply_scale(schedule, default_scale(workload, machine))
    return schedule
