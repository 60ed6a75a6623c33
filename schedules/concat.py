"""Images joined along their channels, a batch norm and an activation on the way: `effgen.kernels.joining`."""

from __future__ import annotations

from effgen.kernels.joining import ConcatPlan, concat_primfunc
from effgen.kernels.kinds.concat import Concat
from effgen.machines.machine import Cpu
from effgen.schedules.common import bands_for, most_bands, rule, worth_a_launch
from effgen.schedules.space import Space


@rule(Concat)
def space(workload: Concat, machine: Cpu) -> Space:
    """The rule: joined images, and one image scaled and shifted."""
    positions = workload.batch * workload.height * workload.width
    bands = bands_for(positions, machine)
    shared = worth_a_launch(machine, 0, workload.bytes)
    return Space(
        rule="concat",
        axes={"bands": bands},
        default={"bands": most_bands(bands, machine) if shared else 1},
        build=lambda decisions: concat_primfunc(workload, machine, ConcatPlan(decisions["bands"])),
    )
