"""Weights and biases in the order in which the kernels read them. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from effgen.kernels.tiles import blocks, lanes
from effgen.kernels.workload import Conv2d
from effgen.target import Machine

Array = NDArray[np.float32]


def weight_shape(workload: Conv2d, machine: Machine) -> tuple[int, ...]:
    """Shape of the packed weight.

    Output channels are the innermost axis, one vector of `lanes` at a time, padded with zeros to a whole one:
    `[N/lanes][kh][kw][K][lanes]`; depthwise `[C/lanes][kh][kw][lanes]`; grouped stays `[N][kh][kw][K/groups]`.
    """
    depth = workload.in_channels // workload.groups
    if workload.family == "grouped":
        return (workload.out_channels, *workload.kernel, depth)
    width = lanes(workload.out_channels, machine)
    inner = (width,) if workload.family == "depthwise" else (depth, width)
    return (blocks(workload.out_channels, width), *workload.kernel, *inner)


def bias_shape(workload: Conv2d, machine: Machine) -> tuple[int, ...]:
    """Shape of the packed bias: `[N/lanes][lanes]`; grouped stays `[N]`."""
    if workload.family == "grouped":
        return (workload.out_channels,)
    width = lanes(workload.out_channels, machine)
    return (blocks(workload.out_channels, width), width)


def pack_weight(workload: Conv2d, weight: Array, machine: Machine) -> Array:
    """OIHW weight (`[N][K/groups][kh][kw]`) -> the packed weight, contiguous, of `weight_shape`."""
    expected = (workload.out_channels, workload.in_channels // workload.groups, *workload.kernel)
    assert weight.shape == expected, f"{workload.name}: weight {weight.shape}, expected {expected}"
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
    return np.ascontiguousarray(_pad_rows(bias, int(np.prod(shape)))).reshape(shape)


def _pad_rows(array: Array, rows: int) -> Array:
    return np.pad(array, [(0, rows - array.shape[0])] + [(0, 0)] * (array.ndim - 1))
