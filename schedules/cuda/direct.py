"""Convolutions that no other rule of a GPU's takes: `effgen.kernels.cuda.direct`."""

from __future__ import annotations

from effgen.kernels.cuda.direct import direct_primfunc
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.machines.machine import Gpu
from effgen.schedules.common import rule
from effgen.schedules.space import Space


@rule(Conv2d)
def space(workload: Conv2d, machine: Gpu) -> Space:
    """The rule: any convolution; the last one, since it reads everything from memory again and again."""
    return Space(
        rule="cuda_direct",
        axes={"threads": (64, 128, 256)},
        default={"threads": 128},
        build=lambda decisions: direct_primfunc(workload, machine, decisions["threads"]),
    )
