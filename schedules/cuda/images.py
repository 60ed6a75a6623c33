"""Whole images on a GPU: the mean over height and width, a factor for every channel (`effgen.kernels.cuda.images`)."""

from __future__ import annotations

from effgen.kernels.cuda.builder import WARP
from effgen.kernels.cuda.images import average_pool_primfunc, channel_scale_primfunc
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.machines.machine import Gpu
from effgen.schedules.common import rule
from effgen.schedules.space import Space


@rule(GlobalAveragePool)
def pool(workload: GlobalAveragePool, machine: Gpu) -> Space:
    """The rule: global average pools."""
    return Space(
        rule="cuda_pool",
        axes={"width": (WARP,), "slices": (2, 4, 8, 16)},
        default={"width": WARP, "slices": 8},
        build=lambda decisions: average_pool_primfunc(workload, machine, decisions["width"], decisions["slices"]),
    )


@rule(ChannelScale)
def scale(workload: ChannelScale, machine: Gpu) -> Space:
    """The rule: channel scales."""
    return Space(
        rule="cuda_scale",
        axes={"threads": (128, 256, 512)},
        default={"threads": 256},
        build=lambda decisions: channel_scale_primfunc(workload, machine, decisions["threads"]),
    )
