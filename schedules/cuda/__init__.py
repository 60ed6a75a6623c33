"""Schedule rules for NVIDIA GPUs, one family of kernels a file. The first rule that fits wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from effgen.kernels.workload import Workload
from effgen.machines.target import Gpu
from effgen.schedules.cuda import depthwise, direct, fallback, images, pointwise, squeeze_excite, tensor_core, window
from effgen.schedules.space import Space

__all__ = ["RULES", "fallback"]

# As `effgen.schedules.common.Rule`, for GPUs.
CudaRule: TypeAlias = Callable[[Workload, Gpu], Space | None]

RULES: tuple[CudaRule, ...] = (
    tensor_core.space,
    pointwise.space,
    depthwise.space,
    squeeze_excite.space,
    window.space,
    images.space,
    direct.space,
)
