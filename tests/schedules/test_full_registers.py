"""Channels that fill no whole number of vectors: the last vector is moved back until it fits."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu
from effgen.machines.target import load_target
from effgen.schedules import space_of

Check = Callable[..., None]

CPU = load_target("cpu")
assert isinstance(CPU, Cpu)
#: Half vectors cost as much as whole ones, so that none is taken; and vectors wider than AVX2's, which LLVM splits
#: where the processor has no such.
WHOLE = CPU.costs.model_copy(update={"half_product": 1.0})
MACHINES = [replace(CPU, costs=WHOLE), replace(CPU, costs=WHOLE, vector_bytes=64, vector_registers=32)]


def kernels(channels: int) -> list[tuple[str, Workload]]:
    kernel = {"kernel": (3, 3), "padding": (1, 1, 1, 1)}
    first = Conv2d(1, 7, 9, 5, channels, activation="silu")
    deep = Conv2d(1, 7, 9, channels, channels, **kernel, groups=channels, activation="silu", row_sums=True)  # type: ignore[arg-type]
    added = Conv2d(1, 7, 9, channels, channels, **kernel, groups=channels, residual=True)  # type: ignore[arg-type]
    stem = Conv2d(1, 8, 8, 3, channels, **kernel, stride=(2, 2), data_layout="NCHW", activation="relu")  # type: ignore[arg-type]
    return [
        ("pointwise", Conv2d(2, 5, 3, 7, channels, activation="silu", gated=True, residual=True)),
        ("pointwise", Conv2d(2, 1, 1, 33, channels)),
        ("depthwise", deep),
        ("depthwise", added),
        ("depthwise", ExpandDepthwise(first, deep)),
        ("depthwise", MixedDepthwise((deep, replace(deep, kernel=(5, 5), padding=(2, 2, 2, 2))))),
        ("conv2d", stem),
        ("conv2d", Conv2d(1, 6, 5, 4, channels, **kernel, residual=True)),  # type: ignore[arg-type]
        ("squeeze_excite", SqueezeExcite(2, 3, 4, channels, channels + 2, "silu", "sigmoid")),
        ("pool", GlobalAveragePool(2, 5, 3, channels)),
    ]


@pytest.mark.parametrize("machine", MACHINES, ids=["lanes", "wider"])
@pytest.mark.parametrize("channels", [20, 29])
def test_the_last_vector_is_moved_back(channels: int, machine: Cpu, check_kernel: Check) -> None:
    assert machine.packed_lanes(channels) == machine.lanes
    assert channels % machine.lanes
    for source, workload in kernels(channels):
        assert space_of(workload, machine) is not None
        check_kernel(workload, machine, source)
