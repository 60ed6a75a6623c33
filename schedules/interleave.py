"""Images whose channels are dealt out in turn: `effgen.kernels.interleaving`. Positions are shared out."""

from __future__ import annotations

from effgen.kernels.interleaving import interleave_primfunc
from effgen.kernels.kinds.interleave import Interleave
from effgen.machines.machine import Cpu
from effgen.schedules.common import bands_for, most_bands, rule, worth_a_launch
from effgen.schedules.space import Space


@rule(Interleave)
def space(workload: Interleave, machine: Cpu) -> Space:
    """The rule: channels in turn."""
    bands = bands_for(workload.batch * workload.height * workload.width, machine)
    shared = worth_a_launch(machine, 0, workload.bytes)
    return Space(
        rule="interleave",
        axes={"bands": bands},
        default={"bands": most_bands(bands, machine) if shared else 1},
        build=lambda decisions: interleave_primfunc(workload, machine, decisions["bands"]),
    )
