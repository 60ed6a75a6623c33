"""Weights and biases in the order in which the kernels read them. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from effgen.kernels.tiles import blocks
from effgen.kernels.workload import (
    Activation,
    ChannelScale,
    Concat,
    Conv2d,
    ExpandDepthwise,
    GlobalAveragePool,
    Pool2d,
    Shape,
    SqueezeExcite,
    Workload,
)
from effgen.machines.target import Machine

Array = NDArray[np.float32]

# What the epilogue of an activation wants its argument multiplied by: here it costs nothing (`effgen.kernels.math`).
INPUT_SCALE: dict[Activation, float] = {"silu": -float(np.log2(np.e)), "sigmoid": -float(np.log2(np.e))}


def weight_shape(workload: Conv2d, machine: Machine) -> tuple[int, ...]:
    """Shape of the packed weight.

    Output channels are the innermost axis, one vector of `lanes` at a time, padded with zeros to a whole one:
    `[N/lanes][kh][kw][K][lanes]`; depthwise `[C/lanes][kh][kw][lanes]`; grouped stays `[N][kh][kw][K/groups]`.
    """
    depth = workload.in_channels // workload.groups
    if workload.family == "grouped":
        return (workload.out_channels, *workload.kernel, depth)
    width = machine.lanes_of(workload.out_channels)
    inner = (width,) if workload.family == "depthwise" else (depth, width)
    return (blocks(workload.out_channels, width), *workload.kernel, *inner)


def bias_shape(workload: Conv2d, machine: Machine) -> tuple[int, ...]:
    """Shape of the packed bias: `[N/lanes][lanes]`; grouped stays `[N]`."""
    if workload.family == "grouped":
        return (workload.out_channels,)
    width = machine.lanes_of(workload.out_channels)
    return (blocks(workload.out_channels, width), width)


def input_shapes(workload: Workload, machine: Machine) -> dict[str, Shape]:
    """Name and shape of every input of the workload's kernel, in the order of its arguments; the outputs follow."""
    if isinstance(workload, GlobalAveragePool | Pool2d):
        return {"data": workload.data_shape}
    if isinstance(workload, Concat):
        images = {f"data{index}": shape for index, shape in enumerate(workload.data_shapes)}
        channels = (workload.channels,)
        return images | ({"factor": channels, "summand": channels} if workload.affine else {})
    if isinstance(workload, ChannelScale):
        return {"data": workload.data_shape, "gate": workload.gate_shape}
    if isinstance(workload, SqueezeExcite):
        layers = {"squeeze": workload.squeeze, "excite": workload.excite}
        return {"sums": workload.data_shape} | _parameter_shapes(layers, machine)
    if isinstance(workload, ExpandDepthwise):
        layers = {"expand": workload.expand, "depthwise": workload.depthwise}
        return {"data": workload.data_shape} | _parameter_shapes(layers, machine) | _ahead_shapes(workload)
    shapes: dict[str, Shape] = {
        "data": workload.data_shape,
        "weight": weight_shape(workload, machine),
        "bias": bias_shape(workload, machine),
    }
    shapes |= {"gate": workload.gate_shape} if workload.gated else {}
    shapes |= {"residual": workload.out_shape} if workload.residual else {}
    return shapes | _ahead_shapes(workload)


def output_shapes(workload: Workload) -> dict[str, Shape]:
    """Name and shape of every output of the workload's kernel, in the order of its arguments."""
    return dict(zip(("out", "sums_out"), workload.out_shapes, strict=False))


def argument_dtype(workload: Workload, name: str) -> str:
    """Type of an argument of the workload's kernel: the workload's, but float32 for what is small or a sum (biases,
    gates, row sums), and for an image as the user has it."""
    small = name.endswith("bias") or name in ("gate", "sums", "sums_out", "factor", "summand")
    gate = isinstance(workload, SqueezeExcite) and name == "out"
    image = name == "data" and isinstance(workload, Conv2d | ExpandDepthwise) and workload.data_layout == "NCHW"
    return "float32" if small or gate or image else workload.dtype


def _ahead_shapes(workload: Conv2d | ExpandDepthwise) -> dict[str, Shape]:
    return {f"ahead{index}": shape for index, shape in enumerate(workload.ahead)}


def _parameter_shapes(layers: dict[str, Conv2d], machine: Machine) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for name, layer in layers.items():
        shapes |= {f"{name}_weight": weight_shape(layer, machine), f"{name}_bias": bias_shape(layer, machine)}
    return shapes


def pack_weight(workload: Conv2d, weight: Array, machine: Machine) -> Array:
    """OIHW weight (`[N][K/groups][kh][kw]`) -> the packed weight, contiguous, of `weight_shape` and workload's type."""
    expected = (workload.out_channels, workload.in_channels // workload.groups, *workload.kernel)
    assert weight.shape == expected, f"{workload.name}: weight {weight.shape}, expected {expected}"
    weight = _scaled(workload, weight).astype(workload.dtype, copy=False)
    if workload.family == "grouped":
        return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))
    shape = weight_shape(workload, machine)
    padded = _pad_rows(weight, shape[0] * shape[-1])
    # [N/lanes][lanes][K][kh][kw] -> [N/lanes][kh][kw][K][lanes]; a depthwise K is 1 and drops out.
    split = padded.reshape(shape[0], shape[-1], *expected[1:]).transpose(0, 3, 4, 2, 1)
    return np.ascontiguousarray(split).reshape(shape)


def pack_bias(workload: Conv2d, bias: Array, machine: Machine) -> Array:
    """`[N]` -> the packed bias, contiguous, of `bias_shape`."""
    shape = bias_shape(workload, machine)
    return np.ascontiguousarray(_pad_rows(_scaled(workload, bias), int(np.prod(shape)))).reshape(shape)


def _scaled(workload: Conv2d, array: Array) -> Array:
    scale = INPUT_SCALE.get(workload.activation, 1.0)
    return (array.astype(np.float64) * scale).astype(np.float32)


def _pad_rows(array: Array, rows: int) -> Array:
    return np.pad(array, [(0, rows - array.shape[0])] + [(0, 0)] * (array.ndim - 1))
