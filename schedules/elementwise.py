"""Squeeze-excite's scale where no convolution follows to take it: every position of an image times its channel's gate.

for position in parallel(batch x height x width): for channel vectors: out = data * gate
"""

from __future__ import annotations

from tvm.tirx import PrimFunc

from effgen.kernels.compute import channel_scale_primfunc
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.machines.machine import Cpu
from effgen.schedules.common import rule, schedule_of, scheduled, split, worth_a_launch
from effgen.schedules.space import Decisions, Space


@rule(ChannelScale)
def space(workload: ChannelScale, machine: Cpu) -> Space:
    """The rule: squeeze-excite's scale."""
    return Space(
        rule="scale",
        axes={"parallel": (0, 1)},
        default={"parallel": int(worth_a_launch(machine, 0, workload.bytes))},
        build=lambda decisions: _build(workload, machine, decisions),
    )


def _build(workload: ChannelScale, machine: Cpu, decisions: Decisions) -> PrimFunc:
    schedule = schedule_of(channel_scale_primfunc(workload, machine))
    b, y, x, c = schedule.get_loops(schedule.get_sblock("store"))
    position = schedule.fuse(b, y, x)
    width = machine.lanes_of(workload.channels)
    if workload.channels % width == 0:
        schedule.vectorize(split(schedule, c, width)[1])
    if decisions["parallel"]:
        schedule.parallel(position)
    return scheduled(schedule, workload.name)
