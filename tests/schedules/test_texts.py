"""One kernel of every rule as text, for targets whose facts are stated: the same on every machine."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.concat import Concat
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.interleave import Interleave
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.schedules import kernel_from_workload, space_of

CPU = replace(load_target("x86-64-v3"), cores=2)
GPU = load_target("cuda-sm90")


def square(kernel: int) -> dict[str, Any]:
    return {"kernel": (kernel, kernel), "padding": (kernel // 2,) * 4}


POINTWISE = Conv2d(1, 4, 4, 8, 16, activation="silu")
DEPTHWISE = Conv2d(1, 6, 6, 16, 16, **square(3), groups=16, activation="silu", row_sums=True)
SQUEEZE_EXCITE = SqueezeExcite(1, 4, 4, 8, 2, "silu", "sigmoid")
STEM = Conv2d(1, 8, 8, 3, 8, **square(3), stride=(2, 2), data_layout="NCHW", activation="relu")
POOL = GlobalAveragePool(1, 4, 4, 8)
SCALE = ChannelScale(1, 4, 4, 8)
GROUPED = Conv2d(1, 4, 4, 6, 6, **square(3), groups=2)

SMALL = Conv2d(1, 4, 4, 8, 8, **square(3), groups=8, activation="relu")
MIXED = MixedDepthwise((SMALL, replace(SMALL, **square(5))))

#: By rule.
KERNELS: dict[str, tuple[Workload, Machine]] = {
    "pointwise": (POINTWISE, CPU),
    "depthwise": (DEPTHWISE, CPU),
    "expand_depthwise": (ExpandDepthwise(Conv2d(1, 6, 6, 8, 16, activation="silu"), DEPTHWISE), CPU),
    "squeeze_excite": (SQUEEZE_EXCITE, CPU),
    "conv2d": (STEM, CPU),
    "pool": (POOL, CPU),
    "window_pool": (Pool2d("max", 1, 8, 8, 8, (3, 3), (2, 2), (1, 1, 1, 1)), CPU),
    "concat": (Concat(1, 4, 4, (8, 16), affine=True, activation="relu"), CPU),
    "scale": (SCALE, CPU),
    "grouped": (GROUPED, CPU),
    "interleave": (Interleave(1, 4, 4, 8, 2, (8, 8)), CPU),
    "mixed_depthwise": (MIXED, CPU),
    "cuda_pointwise": (POINTWISE, GPU),
    "cuda_tensor_core": (Conv2d(1, 7, 7, 16, 16, activation="silu", dtype="float16"), GPU),
    "cuda_depthwise": (DEPTHWISE, GPU),
    "cuda_squeeze_excite": (SQUEEZE_EXCITE, GPU),
    "cuda_window": (STEM, GPU),
    "cuda_pool": (POOL, GPU),
    "cuda_scale": (SCALE, GPU),
    "cuda_direct": (GROUPED, GPU),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernel_is_as_recorded(name: str, check_golden: Callable[[str, str], None]) -> None:
    """Shows in a diff what a change of a rule, or of what writes its kernels, does."""
    workload, machine = KERNELS[name]
    space = space_of(workload, machine)
    assert space is not None and space.rule == name.replace("expand_depthwise", "depthwise").replace(
        "mixed_depthwise", "depthwise"
    )
    check_golden(f"{name}.tir.txt", kernel_from_workload(workload, machine).script() + "\n")
