"""Matrix products of whole-number codes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm

from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.lowering import PIPELINE, tvm_target
from effgen.kernels.packing import pack
from effgen.machines.machine import Cpu, Machine
from effgen.machines.target import load_target
from effgen.schedules import kernel_from_workload, space_of

Check = Callable[..., None]


@pytest.mark.parametrize("code_type", [None, "uint8"])
@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 14, 14, 80, 480, activation="silu", dtype="uint8"),
        Conv2d(1, 7, 7, 192, 320, dtype="uint8"),
        Conv2d(1, 7, 7, 96, 192, residual=True, dtype="uint8"),
        Conv2d(3, 5, 7, 16, 24, activation="silu", residual=True, dtype="uint8"),
        Conv2d(2, 3, 1, 4, 13, activation="hard_swish", dtype="uint8"),
        Conv2d(1, 5, 3, 44, 70, activation="relu", residual=True, activation_last=True, dtype="uint8"),
        Conv2d(1, 1, 1, 320, 1000, dtype="uint8"),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Conv2d, code_type: str | None, machine: Machine, check_kernel: Check) -> None:
    if machine.dot is None or machine.dot.codes != workload.dtype:
        pytest.skip("multiplies no such codes")
    check_kernel(replace(workload, code_type=code_type), machine, "pointwise")


def depthwise(expand: Conv2d, kernel: int, stride: int = 1, **fields: Any) -> Conv2d:
    """What follows an expansion."""
    channels, side = expand.out_channels, kernel // 2
    image = (expand.batch, expand.out_height, expand.out_width, channels, channels)
    return Conv2d(*image, (kernel, kernel), (stride, stride), (side,) * 4, groups=channels, **fields)


SILU = Conv2d(1, 14, 14, 40, 240, activation="silu", dtype="uint8")
RELU6 = Conv2d(1, 9, 7, 16, 96, activation="relu6", dtype="uint8")
FEW = Conv2d(2, 5, 5, 4, 13, dtype="uint8")
STEM = Conv2d(1, 20, 21, 3, 16, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW", activation="relu6")


@pytest.mark.parametrize("code_type", [None, "uint8"])
@pytest.mark.parametrize(
    ("expand", "depthwise"),
    [
        (SILU, depthwise(SILU, 5, 2, activation="silu", row_sums=True)),
        (RELU6, depthwise(RELU6, 3, activation="relu6")),
        (FEW, depthwise(FEW, 3)),
        (STEM, depthwise(STEM, 3, activation="relu6")),
    ],
    ids=lambda workload: workload.name,
)
def test_expanded_by_codes(
    expand: Conv2d, depthwise: Conv2d, code_type: str | None, machine: Machine, check_kernel: Check
) -> None:
    if expand.multiplies_codes and (machine.dot is None or machine.dot.codes != expand.dtype):
        pytest.skip("multiplies no such codes")
    check_kernel(ExpandDepthwise(expand, replace(depthwise, code_type=code_type)), machine, "depthwise")


def test_depthwise_convolutions_make_codes(machine: Machine, check_kernel: Check) -> None:
    workload = Conv2d(1, 9, 7, 40, 40, (3, 3), padding=(1, 1, 1, 1), groups=40, activation="relu", code_type="uint8")
    check_kernel(workload, machine, "depthwise")
    check_kernel(replace(workload, code_type="int8", row_sums=True), machine, "depthwise")


@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 7, 7, 96, 192, residual=True, residual_type="uint8", code_type="uint8", dtype="uint8"),
        Conv2d(2, 5, 3, 16, 13, activation="relu", residual=True, activation_last=True, residual_type="int8"),
    ],
    ids=lambda workload: workload.name,
)
def test_residuals_are_codes(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    if workload.multiplies_codes and (machine.dot is None or machine.dot.codes != workload.dtype):
        pytest.skip("multiplies no such codes")
    check_kernel(workload, machine, "pointwise")


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("code_type", [None, "uint8", "int8"])
def test_scaled_codes(dtype: str, code_type: str | None, machine: Machine, check_kernel: Check) -> None:
    for channels in (40, 13):
        check_kernel(ChannelScale(2, 5, 3, channels, code_type, dtype), machine, "scale")


@pytest.mark.parametrize(
    ("target", "changed", "dtype", "instruction"),
    [
        ("x86-64-v4", {"mcpu": "znver4", "features": ("avx512_vnni", "avx512vl")}, "uint8", r"vpdpbusd.*%zmm"),
        ("x86-64-v3", {"mcpu": "alderlake", "features": ("avx_vnni", "avx2")}, "uint8", r"vpdpbusd.*%ymm"),
        ("x86-64-v3", {}, "uint8", r"vpmaddwd.*%ymm"),
        ("rpi5", {}, "int8", r"sdot\s+v\d+\.4s"),
    ],
)
@pytest.mark.parametrize("residual", [False, True])
def test_what_multiplies(target: str, changed: dict[str, Any], dtype: str, instruction: str, residual: bool) -> None:
    """Each sum of the tile by an instruction of its own, and no sum on the stack: those that spill halve the speed."""
    machine = replace(load_target(target), **changed)
    assert isinstance(machine, Cpu) and machine.dot is not None
    workload = Conv2d(1, 14, 14, 96, 96, residual=residual, code_type=dtype, dtype=dtype)
    space = space_of(workload, machine)
    assert space is not None
    kernel = kernel_from_workload(workload, machine)
    text = tvm.compile(tvm.IRModule({workload.name: kernel}), tvm_target(machine), tir_pipeline=PIPELINE)
    loops = re.split(r"\n\.L\w+:|\n\t(?:b\.|j)\w+", text.mod.inspect_source("asm"))
    busiest = max(loops, key=lambda loop: len(re.findall(instruction, loop)))
    tile = space.default["rows"] * space.default["vectors"]
    assert len(re.findall(instruction, busiest)) % tile == 0 and tile >= 6
    assert not re.findall(r"v?mov[au]p[sd]\s+%[yz]mm\d+, -?\d*\(%rsp\)|str\s+q\d+, \[sp", busiest)


def test_the_ends_of_codes(machine: Machine) -> None:
    """The greatest sums, of all channels alike, exact in every place."""
    if machine.dot is None or machine.dot.codes != "uint8":
        pytest.skip("multiplies no such codes")
    workload = Conv2d(1, 5, 3, 68, 21, dtype="uint8")
    for code, weight in ((255, -128), (255, 127), (0, -128), (1, 1)):
        inputs = {argument.name: np.zeros(argument.shape) for argument in workload.inputs}
        inputs |= {
            "data": np.full(workload.data_shape, code, np.uint8),
            "factor": np.ones(21),
            "start": np.full(21, -9),
        }
        inputs["weight"] = np.full((21, 68, 1, 1), weight)
        packed = [pack(argument, inputs[argument.name], machine) for argument in workload.inputs]
        found = tvm.runtime.tensor(np.full(workload.out_shape, np.nan, np.float32))
        kernel = tvm.IRModule({workload.name: kernel_from_workload(workload, machine)})
        library = tvm.compile(kernel, tvm_target(machine), tir_pipeline=PIPELINE)
        library[workload.name](*map(tvm.runtime.tensor, packed), found)
        assert (found.numpy() == code * weight * 68 - 9).all()
