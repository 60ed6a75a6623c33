"""Squeeze-excite's gate from an image's row sums: `effgen.kernels.squeeze_excite`.

The weights are read once, and most of these kernels are over before a second core could join: those stay on one.
"""

from __future__ import annotations

from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.squeeze_excite import SqueezeExcitePlan, squeeze_excite_primfunc
from effgen.machines.machine import Cpu
from effgen.schedules.common import rule, worth_a_launch
from effgen.schedules.space import Decisions, Space

# What cores share.
_NOTHING, _VECTORS, _IMAGES = 0, 1, 2


@rule(SqueezeExcite)
def space(workload: SqueezeExcite, machine: Cpu) -> Space:
    """The rule: squeeze-excite."""
    shares = (_NOTHING, _VECTORS, _IMAGES) if workload.batch > 1 else (_NOTHING, _VECTORS)
    axes = {"chains": (4, 8, 16), "vectors": (1, 2, 4, 8), "shared": shares}
    return Space(
        rule="squeeze_excite",
        axes=axes,
        default={"chains": 8, "vectors": 4, "shared": _default_share(workload, machine)},
        build=lambda decisions: squeeze_excite_primfunc(workload, machine, _plan(decisions)),
    )


def _default_share(workload: SqueezeExcite, machine: Cpu) -> int:
    if workload.batch >= machine.cores and workload.batch > 1:
        return _IMAGES
    # Two launches, one for each layer.
    return _VECTORS if worth_a_launch(machine, workload.macs // 2, workload.bytes // 2) else _NOTHING


def _plan(decisions: Decisions) -> SqueezeExcitePlan:
    shared = decisions["shared"]
    return SqueezeExcitePlan(decisions["chains"], decisions["vectors"], shared == _VECTORS, shared == _IMAGES)
