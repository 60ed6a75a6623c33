"""What every kernel computes, in float64 by numpy, over the very arrays that the kernel takes: the tuner's judge."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from effgen.kernels.packing import INPUT_SCALE, argument_dtype, input_shapes, pack_bias, pack_weight
from effgen.kernels.workload import (
    Activation,
    ChannelScale,
    Concat,
    Conv2d,
    ExpandDepthwise,
    GlobalAveragePool,
    Pool2d,
    SqueezeExcite,
    Workload,
)
from effgen.machines.target import Machine

Inputs = Mapping[str, NDArray[np.float32]]
_Float64 = NDArray[np.float64]


def random_inputs(
    workload: Workload, machine: Machine, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Inputs of the kernel, in the order and of the types of its arguments, so scaled that the outputs are about 1.

    Weights are packed as for a real network: the lanes that fill up the last vector are zero. What is only asked for
    ahead is NaN: nothing may depend on it.
    """
    inputs = _read_inputs(workload, machine, generator)
    rest = {name: shape for name, shape in input_shapes(workload, machine).items() if name not in inputs}
    inputs |= {name: np.full(shape, np.nan, np.float32) for name, shape in rest.items()}
    return {name: array.astype(argument_dtype(workload, name), copy=False) for name, array in inputs.items()}


def _read_inputs(
    workload: Workload, machine: Machine, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    if isinstance(workload, GlobalAveragePool | Pool2d):
        return {"data": _normal(workload.data_shape, generator)}
    if isinstance(workload, Concat):
        return {name: _normal(shape, generator) for name, shape in input_shapes(workload, machine).items()}
    if isinstance(workload, ChannelScale):
        return {
            "data": _normal(workload.data_shape, generator),
            "gate": generator.random(workload.gate_shape, dtype=np.float32),
        }
    if isinstance(workload, SqueezeExcite):
        # The mean is the sum over the rows divided by height * width.
        sums = _normal(workload.data_shape, generator) * np.float32(workload.width * workload.height**0.5)
        first = _parameters("squeeze_", workload.squeeze, machine, generator)
        return {"sums": sums} | first | _parameters("excite_", workload.excite, machine, generator)
    if isinstance(workload, ExpandDepthwise):
        inputs = {"data": _normal(workload.data_shape, generator)}
        inputs |= _parameters("expand_", workload.expand, machine, generator)
        return inputs | _parameters("depthwise_", workload.depthwise, machine, generator)
    inputs = {"data": _normal(workload.data_shape, generator)} | _parameters("", workload, machine, generator)
    if workload.gated:
        inputs["gate"] = generator.random(workload.gate_shape, dtype=np.float32)
    if workload.residual:
        inputs["residual"] = _normal(workload.out_shape, generator)
    return inputs


def reference_outputs(workload: Workload, inputs: Inputs, machine: Machine) -> list[_Float64]:
    """The kernel's outputs, of `workload.out_shapes`, for packed `inputs` by name (`packing.input_shapes`).

    What stands in the lanes that fill up the last vector of a weight or a bias does not matter.
    """
    if isinstance(workload, GlobalAveragePool):
        return [inputs["data"].mean((1, 2), dtype=np.float64, keepdims=True)]
    if isinstance(workload, Pool2d):
        return [_pooled(workload, inputs["data"].astype(np.float64))]
    if isinstance(workload, Concat):
        return [_joined(workload, inputs)]
    if isinstance(workload, ChannelScale):
        return [inputs["data"].astype(np.float64) * inputs["gate"]]
    if isinstance(workload, SqueezeExcite):
        return [_squeeze_excite(workload, inputs)]
    if isinstance(workload, ExpandDepthwise):
        expanded = _convolution(workload.expand, _named(inputs, "expand_", data=inputs["data"]))
        return _depthwise_outputs(workload.depthwise, _named(inputs, "depthwise_", data=expanded))
    return _depthwise_outputs(workload, inputs)


# Random parameters.


def _normal(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    return generator.standard_normal(shape, dtype=np.float32)


def _parameters(
    prefix: str, layer: Conv2d, machine: Machine, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Packed weight and bias of one convolution, so large that noise leaves it as large as it came."""
    shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)
    weight = _normal(shape, generator) / np.float32(np.sqrt(np.prod(shape[1:])))
    bias = _normal((layer.out_channels,), generator)
    return {f"{prefix}weight": pack_weight(layer, weight, machine), f"{prefix}bias": pack_bias(layer, bias, machine)}


# The definitions.


def _named(inputs: Inputs, prefix: str, data: NDArray[np.float32] | _Float64) -> dict[str, NDArray[np.float32]]:
    """One layer's inputs under the names that a lone convolution has."""
    return {"data": data, "weight": inputs[f"{prefix}weight"], "bias": inputs[f"{prefix}bias"]}  # type: ignore[dict-item]


def _depthwise_outputs(workload: Conv2d, inputs: Inputs) -> list[_Float64]:
    """The output of a convolution and, where the workload has them, the sums of its rows."""
    out = _convolution(workload, inputs)
    return [out, out.sum(2)] if workload.row_sums else [out]


def _squeeze_excite(workload: SqueezeExcite, inputs: Inputs) -> _Float64:
    mean = inputs["sums"].sum(1, dtype=np.float64) / (workload.height * workload.width)
    image = mean.reshape(workload.batch, 1, 1, workload.channels)
    squeezed = _convolution(workload.squeeze, _named(inputs, "squeeze_", data=image))
    return _convolution(workload.excite, _named(inputs, "excite_", data=squeezed))


def _pooled(workload: Pool2d, image: _Float64) -> _Float64:
    """The maximum of every window, or its sum over the number of pixels that count; tap by tap."""
    top, left, bottom, right = workload.padding
    lowest = -np.inf if workload.mode == "max" else 0.0
    image = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=lowest)
    out = np.full(workload.out_shape, lowest)
    (sh, sw), (rows, columns) = workload.stride, workload.out_shape[1:3]
    for ky, kx in product(range(workload.kernel[0]), range(workload.kernel[1])):
        y, x = ky * workload.dilation[0], kx * workload.dilation[1]
        tap = image[:, y : y + (rows - 1) * sh + 1 : sh, x : x + (columns - 1) * sw + 1 : sw]
        out = np.maximum(out, tap) if workload.mode == "max" else out + tap
    return out if workload.mode == "max" else out / workload.counts[None, :, :, None]


def _joined(workload: Concat, inputs: Inputs) -> _Float64:
    images = [inputs[f"data{index}"].astype(np.float64) for index in range(len(workload.parts))]
    out = np.concatenate(images, axis=3)
    if workload.affine:
        out = out * inputs["factor"] + inputs["summand"]
    return _activate(out, workload.activation)


def _convolution(workload: Conv2d, inputs: Inputs) -> _Float64:
    """`activation(conv(gate * data, weight) + bias) [+ residual]`, or `activation(... + residual)`; NHWC."""
    image = inputs["data"].astype(np.float64)
    if workload.data_layout == "NCHW":
        image = image.transpose(0, 2, 3, 1)
    if workload.gated:
        image = image * inputs["gate"]
    sums = _windows(workload, _padded(workload, image), _taps(workload, inputs["weight"].astype(np.float64)))
    sums += inputs["bias"].reshape(-1)[: workload.out_channels]
    # The packed parameters make the argument of some activations times a constant.
    argument = sums / INPUT_SCALE.get(workload.activation, 1.0)
    if workload.activation_last:
        return _activate(argument + inputs["residual"], workload.activation)
    out = _activate(argument, workload.activation)
    return out + inputs["residual"] if workload.residual else out


def _padded(workload: Conv2d, image: _Float64) -> _Float64:
    if not any(workload.padding):
        return image
    top, left, bottom, right = workload.padding
    return np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)))


def _taps(workload: Conv2d, packed: _Float64) -> _Float64:
    """Packed weight -> `[kh][kw][K/groups][N]`, the filling lanes cut off; depthwise has K/groups = 1."""
    if workload.family == "grouped":
        return packed.transpose(1, 2, 3, 0)
    blocked = packed[..., None, :] if workload.family == "depthwise" else packed
    # [N/lanes][kh][kw][K][lanes] -> [kh][kw][K][N/lanes][lanes]
    taps = blocked.transpose(1, 2, 3, 0, 4)
    return taps.reshape(*taps.shape[:3], -1)[..., : workload.out_channels]


def _windows(workload: Conv2d, image: _Float64, taps: _Float64) -> _Float64:
    """The convolution without bias: one product of the shifted image a tap, a matrix product unless depthwise."""
    out = np.zeros(workload.out_shape)
    term = np.empty(workload.out_shape)
    (sh, sw), (height, width) = workload.stride, workload.out_shape[1:3]
    for y, x in product(range(workload.kernel[0]), range(workload.kernel[1])):
        top, left = y * workload.dilation[0], x * workload.dilation[1]
        shifted = image[:, top : top + (height - 1) * sh + 1 : sh, left : left + (width - 1) * sw + 1 : sw]
        if workload.family == "depthwise":
            np.multiply(shifted, taps[y, x, 0], out=term)
        else:
            _grouped_product(workload.groups, shifted, taps[y, x], term)
        out += term
    return out


def _grouped_product(groups: int, image: _Float64, tap: _Float64, out: _Float64) -> None:
    """`out[..., n] = sum over k of image[..., k] * tap[k, n]`, each group of channels with its own."""
    depth, width = tap.shape[0], tap.shape[1] // groups
    for group in range(groups):
        columns = slice(group * width, (group + 1) * width)
        rows = np.ascontiguousarray(image[..., group * depth : (group + 1) * depth]).reshape(-1, depth)
        out[..., columns] = (rows @ tap[:, columns]).reshape(*image.shape[:3], width)


def _activate(x: _Float64, activation: Activation) -> _Float64:
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
    assert activation == "none", activation
    return x
