"""Convolutions written as loops, and random inputs to try them on."""

from __future__ import annotations

from itertools import product
from math import erf, exp, log1p, pi, sqrt, tanh

import numpy as np
from numpy.typing import NDArray

from effgen.kernels.groups import GroupVectors
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import INPUT_SCALE
from effgen.kernels.reference import random_inputs
from effgen.kernels.workload import Activation, Workload
from effgen.machines.machine import Machine
from effgen.machines.target import load_target

MACHINE = load_target("x86-64-v3")


def inputs_of(workload: Workload, machine: Machine = MACHINE) -> dict[str, NDArray[np.float32]]:
    return random_inputs(workload, machine, np.random.default_rng(0))


def scalar(x: float, activation: Activation) -> float:
    sigmoid, hard = 1 / (1 + exp(-x)), min(max(x + 3, 0), 6) / 6
    return {
        "none": x,
        "silu": x * sigmoid,
        "sigmoid": sigmoid,
        "relu": max(x, 0),
        "relu6": min(max(x, 0), 6),
        "hard_sigmoid": hard,
        "hard_swish": x * hard,
        "gelu": x * (1 + erf(x / sqrt(2))) / 2,
        "gelu_tanh": x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2,
        "mish": x * tanh(log1p(exp(x))),
        "tanh": tanh(x),
        "leaky_relu_0p1": x if x > 0 else 0.1 * x,
        "clip_m1p0_0p75": min(max(x, -1), 0.75),
        "elu_1p5": x if x > 0 else 1.5 * (exp(x) - 1),
    }[activation]


def place(workload: Conv2d, n: int, lanes: int) -> tuple[int, int]:
    """Vector and lane where output channel `n` of packed parameters stands."""
    if workload.family != "grouped":
        vector = n // lanes
        return vector, n - max(0, min(vector * lanes, workload.out_channels - lanes))
    starts = GroupVectors(workload.out_channels, workload.out_channels // workload.groups, lanes).starts
    return next((vector, n - start) for vector, start in enumerate(starts) if start <= n < start + lanes)


def packed_weight(workload: Conv2d, weight: NDArray[np.float32], n: int, k: int, y: int, x: int) -> float:
    vector, lane = place(workload, n, weight.shape[-1])
    return float(weight[vector, y, x, lane] if workload.family == "depthwise" else weight[vector, y, x, k, lane])


def naive(workload: Conv2d, inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    data = inputs["data"] if workload.data_layout == "NHWC" else inputs["data"].transpose(0, 2, 3, 1)
    depth, wide = workload.in_channels // workload.groups, workload.out_channels // workload.groups
    out = np.zeros(workload.out_shape)
    for b, oy, ox, n in product(*map(range, workload.out_shape)):
        total = float(inputs["bias"][place(workload, n, inputs["bias"].shape[-1])])
        for ky, kx, k in product(*map(range, workload.kernel), range(depth)):
            y = oy * workload.stride[0] + ky * workload.dilation[0] - workload.padding[0]
            x = ox * workload.stride[1] + kx * workload.dilation[1] - workload.padding[1]
            if 0 <= y < workload.height and 0 <= x < workload.width:
                channel = n // wide * depth + k
                gate = float(inputs["gate"][b, 0, 0, channel]) if workload.gated else 1.0
                weight = packed_weight(workload, inputs["weight"], n, k, ky, kx)
                total += float(data[b, y, x, channel]) * gate * weight
        total /= INPUT_SCALE.get(workload.activation, 1.0)
        residual = float(inputs["residual"][b, oy, ox, n]) if workload.residual else 0.0
        if workload.activation_last:
            out[b, oy, ox, n] = scalar(total + residual, workload.activation)
        else:
            out[b, oy, ox, n] = scalar(total, workload.activation) + residual
    return out
