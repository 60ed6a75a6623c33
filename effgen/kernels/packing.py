"""A kernel's arguments as it gets them: weights and biases in the order in which they are read. numpy only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.kernels.groups import GroupVectors, group_vectors
from effgen.kernels.tiles import blocks
from effgen.kernels.workload import CODE_TYPES, Activation, Argument, Float64, Shape, Workload
from effgen.machines.machine import Machine

Array = NDArray[np.float32]

# What the epilogue of an activation wants its argument multiplied by: here it costs nothing (`effgen.kernels.math`).
INPUT_SCALE: dict[Activation, float] = {"silu": -float(np.log2(np.e)), "sigmoid": -float(np.log2(np.e))}


def packed_shape(argument: Argument, machine: Machine) -> Shape:
    """Shape of an argument as the kernel gets it.

    Output channels are the innermost axis, one vector of `lanes` at a time: a weight is `[N/lanes][kh][kw][K][lanes]`,
    depthwise `[C/lanes][kh][kw][lanes]`, a bias `[N/lanes][lanes]`. The last vector is moved back until it fits,
    and repeats channels of the one before it (`first_channel`); fewer channels than lanes are filled up with zeros.
    Those of grouped convolutions are `[vectors][kh][kw][K/groups][lanes]` and `[vectors][lanes]` of other vectors
    (`effgen.kernels.groups`). Weights that are codes stand as one product takes them, so many of a lane side by side:
    `[N/lanes][kh][kw][K/depth][lanes * depth]`.
    """
    if argument.layout == "plain":
        return argument.shape
    channels, *depth_and_kernel = argument.shape
    if argument.layout == "grouped":
        over = group_vectors(channels, channels // argument.groups, machine)
        return (over.count, *depth_and_kernel[1:], *depth_and_kernel[:1], over.lanes)
    width = machine.packed_lanes(channels)
    depth = depth_and_kernel[:1] if argument.layout == "vectors" else []
    together = _together(argument, machine)
    return (blocks(channels, width), *depth_and_kernel[1:], *(d // together for d in depth), width * together)


def _together(argument: Argument, machine: Machine) -> int:
    """Weights of a lane that stand side by side."""
    if not argument.is_weight or argument.dtype != "int8":
        return 1
    assert machine.dot is not None and argument.shape[1] % machine.dot.depth == 0, argument
    return machine.dot.depth


def kernel_arguments(workload: Workload, machine: Machine) -> tuple[Argument, ...]:
    """The arguments of the workload's kernel as it gets them: inputs, weights asked for ahead, outputs."""
    packed = (replace(argument, shape=packed_shape(argument, machine), layout="plain") for argument in workload.inputs)
    # Weights that are codes are never asked for ahead.
    dtype = "float32" if workload.dtype in CODE_TYPES else workload.dtype
    ahead = (Argument(f"ahead{index}", shape, dtype) for index, shape in enumerate(workload.ahead))
    return (*packed, *ahead, *workload.outputs)


def input_shapes(workload: Workload, machine: Machine) -> dict[str, Shape]:
    """Name and shape of every input of the workload's kernel, in the order of its arguments."""
    arguments = kernel_arguments(workload, machine)[: -len(workload.outputs)]
    return {argument.name: argument.shape for argument in arguments}


def first_channel(block: int, channels: int, lanes: int) -> int:
    """The first output channel of vector number `block`."""
    return max(0, min(block * lanes, channels - lanes))


def _channels_of(channels: int, vectors: int, lanes: int) -> NDArray[np.intp]:
    """The channel of each lane, [vectors][lanes]; beyond the channels where a lane only fills up."""
    starts = [first_channel(block, channels, lanes) for block in range(vectors)]
    return np.add.outer(np.array(starts, np.intp), np.arange(lanes))


def weight_shape(convolution: Workload, machine: Machine) -> Shape:
    """Shape of a convolution's packed weight."""
    return packed_shape(convolution.input("weight"), machine)


def bias_shape(convolution: Workload, machine: Machine) -> Shape:
    """Shape of a convolution's packed bias."""
    return packed_shape(convolution.input("bias"), machine)


def pack_weight(convolution: Workload, weight: Array, machine: Machine) -> Array:
    """OIHW weight (`[N][K/groups][kh][kw]`) -> the packed weight, contiguous, of `weight_shape` and workload's type."""
    return pack(convolution.input("weight"), weight, machine)


def pack_bias(convolution: Workload, bias: Array, machine: Machine) -> Array:
    """`[N]` -> the packed bias, contiguous, of `bias_shape`."""
    return pack(convolution.input("bias"), bias, machine)


def pack(argument: Argument, array: Array, machine: Machine) -> NDArray[Any]:
    """An array of the argument's shape -> as the kernel gets it, contiguous."""
    assert array.shape == argument.shape, f"{argument.name}: {array.shape}, expected {argument.shape}"
    scaled = (array.astype(np.float64) * argument.scale).astype(argument.dtype)
    if argument.layout == "plain":
        return scaled
    channels, *depth_and_kernel = argument.shape
    # Depth goes behind the kernel, of which a bias has neither: [N][K][kh][kw] -> [N][kh][kw][K].
    rows = np.moveaxis(scaled, 1, -1) if depth_and_kernel else scaled
    if argument.layout == "grouped":
        over = group_vectors(channels, channels // argument.groups, machine)
        filled = np.pad(rows, [(0, max(0, over.lanes - channels))] + [(0, 0)] * len(depth_and_kernel))
        return np.ascontiguousarray(np.moveaxis(filled[over.indices], 1, -1))
    shape = packed_shape(argument, machine)
    together = _together(argument, machine)
    lanes = shape[-1] // together
    padded = np.pad(rows, [(0, max(0, lanes - channels))] + [(0, 0)] * len(depth_and_kernel))
    # [N/lanes][lanes][kh][kw][K] -> [N/lanes][kh][kw][K][lanes]; a depthwise K is 1 and drops out.
    split = padded[_channels_of(channels, shape[0], lanes)]
    if together == 1:
        return np.ascontiguousarray(np.moveaxis(split, 1, -1)).reshape(shape)
    steps = split.reshape(*split.shape[:-1], -1, together)
    return np.ascontiguousarray(np.moveaxis(steps, 1, -2)).reshape(shape)


def taps(argument: Argument, packed: Float64) -> Float64:
    """A packed weight -> `[kh][kw][K/groups][N]`, without the lanes that fill up the last vector."""
    blocked = packed[..., None, :] if argument.layout == "depthwise" else packed
    if argument.dtype == "int8":  # [..][K/depth][lanes * depth] -> [..][K][lanes]
        depth = argument.shape[1]
        steps = blocked.reshape(*blocked.shape[:-1], -1, depth // blocked.shape[-2])
        blocked = np.moveaxis(steps, -1, -2).reshape(*blocked.shape[:-2], depth, -1)
    # [N/lanes][kh][kw][K][lanes] -> [kh][kw][K][N/lanes][lanes]
    return _channels_last(argument, blocked.transpose(1, 2, 3, 0, 4))


def summands(argument: Argument, packed: Float64) -> Float64:
    """A packed bias -> `[N]`."""
    return _channels_last(argument, packed)


def _channels_last(argument: Argument, packed: Float64) -> Float64:
    """`[...][vectors][lanes]` -> `[...][N]`."""
    channels, by_lane = argument.shape[0], packed.reshape(*packed.shape[:-2], -1)
    if argument.layout == "grouped":
        indices = GroupVectors(channels, channels // argument.groups, packed.shape[-1]).indices
    else:
        indices = _channels_of(channels, *packed.shape[-2:])
    # Where two vectors share a channel it stands in both: either will do.
    return by_lane[..., np.unique(indices.reshape(-1), return_index=True)[1][:channels]]
