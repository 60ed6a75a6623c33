"""Convolutions that no other rule of a GPU's takes: `effgen.kernels.cuda.direct`."""

from __future__ import annotations

from effgen.kernels.cuda.direct import direct_primfunc
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.workload import Workload
from effgen.machines.target import Machine
from effgen.schedules.space import Space


def space(workload: Workload, machine: Machine) -> Space | None:
    """The rule: any convolution; the last one, since it reads everything from memory again and again."""
    if not isinstance(workload, Conv2d):
        return None
    return Space(
        rule="cuda_direct",
        axes={"threads": (64, 128, 256)},
        default={"threads": 128},
        build=lambda decisions: direct_primfunc(workload, machine, decisions["threads"]),
    )
