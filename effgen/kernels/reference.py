"""What kernels compute, in float64 by numpy, for the definitions of their kinds; and random inputs of any kernel.

The tuner judges candidates by these.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import erf, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.kernels.packing import kernel_arguments, pack
from effgen.kernels.workload import CODE_TYPES, Activation, Argument, Arrays, Float64, Workload, activation_and_numbers
from effgen.machines.machine import Machine


def random_inputs(workload: Workload, machine: Machine, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Inputs of the kernel, in the order and of the types of its arguments, so scaled that the outputs are about 1.

    Weights are packed as for a real network: the lanes that fill up the last vector are zero. What is only asked for
    ahead is NaN: nothing may depend on it.
    """
    read = {argument.name: pack(argument, _random(argument, generator), machine) for argument in workload.inputs}
    others = (argument for argument in kernel_arguments(workload, machine) if argument.name.startswith("ahead"))
    return read | {argument.name: np.full(argument.shape, np.nan, argument.dtype) for argument in others}


def _random(argument: Argument, generator: np.random.Generator) -> NDArray[Any]:
    if argument.name.endswith("grid"):
        steps = _RANDOM_STEPS if argument.name == "grid" else 1 / _RANDOM_STEPS
        return np.array([steps, _RANDOM_ZERO], np.float32)
    if argument.dtype in CODE_TYPES and not argument.is_weight:
        low, high = CODE_TYPES[argument.dtype]
        return generator.integers(low, high, argument.shape, argument.dtype, endpoint=True)
    if argument.dtype in ("int8", "int32"):
        drawn = generator.standard_normal(argument.shape) * float(argument.deviation or 1.0)
        return np.clip(np.rint(drawn), -128, 127).astype(argument.dtype)
    if argument.deviation is None:
        return generator.random(argument.shape, dtype=np.float32)
    return generator.standard_normal(argument.shape, dtype=np.float32) * np.float32(argument.deviation)


# Random outputs are about 1: so many steps of codes, which reach both of their bounds now and then.
_RANDOM_STEPS, _RANDOM_ZERO = 33.3, 60


def named(inputs: Arrays, prefix: str, data: NDArray[Any]) -> Arrays:
    """One layer's inputs under the names that a lone convolution has, and those that belong to no layer."""
    own = {name.removeprefix(prefix): array for name, array in inputs.items() if name.startswith(prefix)}
    return {name: array for name, array in inputs.items() if name == "grid"} | own | {"data": data}


# The definitions.


def numbers(codes: Float64, scale: float, zero_point: float) -> Float64:
    """What codes stand for."""
    return (codes - zero_point) * scale


def codes(numbers: Float64, code_type: str, reciprocal: float, zero_point: float) -> Float64:
    """What numbers are rounded to, half to even, at the bounds of the type where they lie beyond."""
    low, high = CODE_TYPES[code_type]
    return np.clip(np.rint(numbers * reciprocal) + zero_point, low, high)


def padded(image: Float64, padding: tuple[int, int, int, int], value: float = 0.0) -> Float64:
    """An NHWC image with more rows and columns: `padding` is (top, left, bottom, right)."""
    if not any(padding):
        return image
    top, left, bottom, right = padding
    return np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def shifted(
    image: Float64, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], Float64]]:
    """Every tap (row, column) of a window, and what of a padded image all windows have there: NHWC of the output."""
    sizes = ((kernel[axis] - 1) * dilation[axis] + 1 for axis in (0, 1))
    rows, columns = ((image.shape[1 + axis] - size) // stride[axis] for axis, size in enumerate(sizes))
    for ky, kx in product(range(kernel[0]), range(kernel[1])):
        top, left = ky * dilation[0], kx * dilation[1]
        bottom, right = top + rows * stride[0] + 1, left + columns * stride[1] + 1
        yield (ky, kx), image[:, top : bottom : stride[0], left : right : stride[1]]


def convolved(
    image: Float64, taps: Float64, stride: tuple[int, int], dilation: tuple[int, int], groups: int
) -> Float64:
    """The convolution of a padded NHWC image by taps `[kh][kw][K/groups][N]`: a matrix product a tap and group.

    Where every channel is a group of its own, a product by element.
    """
    depth, channels = taps.shape[2:]
    out: Float64 | None = None
    for (ky, kx), data in shifted(image, (taps.shape[0], taps.shape[1]), stride, dilation):
        by_element = depth == 1 and groups == channels
        term = data * taps[ky, kx, 0] if by_element else _grouped_product(groups, data, taps[ky, kx])
        out = term if out is None else np.add(out, term, out=out)
    assert out is not None
    return out


def _grouped_product(groups: int, image: Float64, tap: Float64) -> Float64:
    """`out[..., n] = sum over k of image[..., k] * tap[k, n]`, each group of channels with its own."""
    depth, width = tap.shape[0], tap.shape[1] // groups
    out = np.empty((*image.shape[:3], tap.shape[1]))
    for group in range(groups):
        columns = slice(group * width, (group + 1) * width)
        rows = np.ascontiguousarray(image[..., group * depth : (group + 1) * depth]).reshape(-1, depth)
        out[..., columns] = (rows @ tap[:, columns]).reshape(*image.shape[:3], width)
    return out


def activated(x: Float64, activation: Activation) -> Float64:
    """`activation` of every element."""
    if activation in ("silu", "sigmoid"):
        sigmoid = 0.5 * (1.0 + np.tanh(0.5 * x))
        return x * sigmoid if activation == "silu" else sigmoid
    if activation == "relu":
        return np.maximum(x, 0.0)
    if activation == "relu6":
        return np.clip(x, 0.0, 6.0)
    if activation in ("hard_sigmoid", "hard_swish"):
        hard = np.clip(x + 3.0, 0.0, 6.0) / 6.0
        return x * hard if activation == "hard_swish" else hard
    if activation in ("gelu", "gelu_tanh"):
        exact = activation == "gelu"
        return x * 0.5 * (1.0 + (erf_of(x / sqrt(2)) if exact else np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))))
    if activation in ("mish", "tanh"):
        return np.tanh(x) if activation == "tanh" else x * np.tanh(np.logaddexp(x, 0.0))
    word, numbers = activation_and_numbers(activation)
    if word == "clip":
        return np.minimum(np.maximum(x, numbers[0]), numbers[1])
    if word in ("leaky_relu", "elu"):
        return np.where(x > 0, x, numbers[0] * (x if word == "leaky_relu" else np.expm1(np.minimum(x, 0))))
    assert activation == "none", activation
    return x


erf_of = np.vectorize(erf, otypes=[np.float64])
