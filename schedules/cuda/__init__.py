"""Schedule rules for NVIDIA GPUs, one family of kernels a file. The first rule that fits wins."""

from __future__ import annotations

from typing import Any

from effgen.machines.machine import Gpu
from effgen.schedules.common import Rule
from effgen.schedules.cuda import depthwise, direct, fallback, images, pointwise, squeeze_excite, tensor_core, window

__all__ = ["RULES", "fallback"]

RULES: tuple[Rule[Any, Gpu], ...] = (
    tensor_core.space,
    pointwise.space,
    depthwise.space,
    squeeze_excite.space,
    window.space,
    images.pool,
    images.scale,
    direct.space,
)
