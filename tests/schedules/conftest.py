"""Kernels against float64 references: fresh random inputs, and outputs poisoned before the run."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
import tvm
from numpy.typing import NDArray

from effgen.cpu import missing_features
from effgen.kernels.compute import primfunc_from_workload
from effgen.kernels.lowering import PIPELINE
from effgen.kernels.packing import pack_bias, pack_weight
from effgen.kernels.workload import ChannelScale, Conv2d, GlobalAveragePool, Workload
from effgen.schedules import schedule_primfunc, tvm_target
from effgen.target import Machine, load_target

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "relu6": torch.nn.functional.relu6,
    "hard_sigmoid": torch.nn.functional.hardsigmoid,
    "hard_swish": torch.nn.functional.hardswish,
}


def conv_reference(
    workload: Conv2d, data: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float64]:
    image = torch.from_numpy(data).double()
    if workload.data_layout == "NHWC":
        image = image.permute(0, 3, 1, 2)
    top, left, bottom, right = workload.padding
    image = torch.nn.functional.pad(image, (left, right, top, bottom))
    out = torch.nn.functional.conv2d(
        image,
        torch.from_numpy(weight).double(),
        torch.from_numpy(bias).double(),
        stride=workload.stride,
        groups=workload.groups,
    )
    return np.asarray(ACTIVATIONS[workload.activation](out).permute(0, 2, 3, 1))


def case(workload: Workload, machine: Machine) -> tuple[list[NDArray[np.float32]], NDArray[np.float64]]:
    """The kernel's arguments without the output, and the expected output."""
    rng = np.random.default_rng(zlib.crc32(workload.name.encode()))

    def fresh(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    data = fresh(*workload.data_shape)
    if isinstance(workload, GlobalAveragePool):
        return [data], data.astype(np.float64).mean((1, 2), keepdims=True)
    if isinstance(workload, ChannelScale):
        gate = fresh(*workload.gate_shape)
        return [data, gate], data.astype(np.float64) * gate
    depth = workload.in_channels // workload.groups
    taps = depth * workload.kernel[0] * workload.kernel[1]
    weight = fresh(workload.out_channels, depth, *workload.kernel) / np.float32(np.sqrt(taps))
    bias = fresh(workload.out_channels)
    expected = conv_reference(workload, data, weight, bias)
    arguments = [data, pack_weight(workload, weight, machine), pack_bias(workload, bias, machine)]
    if workload.residual:
        arguments.append(fresh(*workload.out_shape))
        expected = expected + arguments[-1]
    return arguments, expected


def check(workload: Workload, machine: Machine, source: str, tolerance: float = 2e-5) -> None:
    func, found = schedule_primfunc(primfunc_from_workload(workload, machine), workload, machine)
    assert found == source
    assert func.attrs["global_symbol"] == workload.name
    assert func.attrs["tirx.is_scheduled"]
    library = tvm.compile(tvm.IRModule({workload.name: func}), tvm_target(machine), tir_pipeline=PIPELINE)
    arguments, expected = case(workload, machine)
    out = tvm.runtime.tensor(np.full(workload.out_shape, np.nan, np.float32))
    library[workload.name](*map(tvm.runtime.tensor, arguments), out)
    np.testing.assert_allclose(out.numpy(), expected, rtol=0, atol=tolerance, err_msg=workload.name)


@pytest.fixture(scope="session", params=["cpu", "x86-64-v3", "x86-64-v4"])
def machine(request: pytest.FixtureRequest) -> Machine:
    found = load_target(request.param)
    if missing := missing_features(found.features):
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    return found


@pytest.fixture(scope="session")
def check_kernel() -> Callable[[Workload, Machine, str], None]:
    """Schedule, compile, run and compare one workload; the third argument is where its schedule must come from."""
    return check
