"""Inputs of kernels and the outputs expected of them, for the tests of every schedule rule."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import pack_bias, pack_weight
from effgen.kernels.reference import random_inputs
from effgen.kernels.workload import CODE_TYPES, Argument, Workload
from effgen.machines.machine import Machine

Arrays = dict[str, NDArray[Any]]

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "relu6": torch.nn.functional.relu6,
    "hard_sigmoid": torch.nn.functional.hardsigmoid,
    "hard_swish": torch.nn.functional.hardswish,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "mish": torch.nn.functional.mish,
    "tanh": torch.tanh,
    "leaky_relu_0p1": lambda x: torch.nn.functional.leaky_relu(x, 0.1),
    "clip_m1p0_0p75": lambda x: x.clip(-1, 0.75),
    "elu_1p5": lambda x: torch.nn.functional.elu(x, 1.5),
}


def conv_reference(
    workload: Conv2d, inputs: Arrays, weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The convolution by PyTorch, which knows nothing of packed parameters."""
    image = torch.from_numpy(inputs["data"]).double()
    if workload.data_layout == "NHWC":
        image = image.permute(0, 3, 1, 2)
    if workload.gated:
        image = image * torch.from_numpy(inputs["gate"]).permute(0, 3, 1, 2)
    top, left, bottom, right = workload.padding
    image = torch.nn.functional.pad(image, (left, right, top, bottom))
    out = torch.nn.functional.conv2d(
        image,
        torch.from_numpy(weight).double(),
        torch.from_numpy(bias).double(),
        stride=workload.stride,
        dilation=workload.dilation,
        groups=workload.groups,
    )
    if workload.activation_last:
        out = out + torch.from_numpy(inputs["residual"]).permute(0, 3, 1, 2)
    activated = np.asarray(ACTIVATIONS[workload.activation](out).permute(0, 2, 3, 1))
    return activated + inputs["residual"] if workload.residual and not workload.activation_last else activated


def arguments(workload: Workload) -> tuple[Argument, ...]:
    return (*workload.inputs, *workload.outputs)


def case(workload: Workload, machine: Machine) -> tuple[Arrays, list[NDArray[np.float64]]]:
    """The kernel's inputs, and the outputs expected of it; for a convolution PyTorch has to agree with them."""
    generator = np.random.default_rng(zlib.crc32(workload.name.encode()))
    inputs = random_inputs(workload, machine, generator)
    if not isinstance(workload, Conv2d) or any(argument.dtype in CODE_TYPES for argument in arguments(workload)):
        return inputs, workload.reference(inputs)
    depth = workload.in_channels // workload.groups
    taps = depth * workload.kernel[0] * workload.kernel[1]
    shape = (workload.out_channels, depth, *workload.kernel)
    weight = generator.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(taps))
    bias = generator.standard_normal(workload.out_channels, dtype=np.float32)
    inputs |= {"weight": pack_weight(workload, weight, machine), "bias": pack_bias(workload, bias, machine)}
    outputs = workload.reference(inputs)
    # Packing rounds what it scales, and to the workload's type.
    close = {"float32": 2e-6, "float16": 5e-3}[workload.dtype]
    np.testing.assert_allclose(outputs[0], conv_reference(workload, inputs, weight, bias), rtol=0, atol=close)
    return inputs, outputs
