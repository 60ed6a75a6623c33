"""Workload -> PrimFunc: what each kernel computes, block by block, still without any schedule.

The functions are written with TVM's IR builder rather than as tensor expressions because of one thing that
a tensor expression cannot say: the last tile of an extent that the register tile does not divide is moved
back until it fits, so a few outputs are written twice with equal values. Nothing is padded, guarded or
copied for it. `_shifted` is that rule; blocks run over whole tiles, and `_shifted` maps to real positions.
(An output must therefore never alias the residual: read again after the first write, it would be wrong.)

Rows of a pointwise or dense convolution are all output positions of the batch in one axis; the 4-D arrays are
indexed `[0, 0, row, channel]`, which is the same memory because every array is contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.math import activate
from effgen.kernels.packing import bias_shape, pack_bias, pack_weight, weight_shape
from effgen.kernels.workload import ChannelScale, Conv2d, GlobalAveragePool, Workload
from effgen.target import Machine

__all__ = ["pack_bias", "pack_weight", "primfunc_from_workload"]

Index: TypeAlias = Expr | int


def primfunc_from_workload(workload: Workload, machine: Machine) -> PrimFunc:
    """The kernel named `workload.name`, unscheduled.

    Arguments: convolution (data, packed weight, packed bias, [residual], out); pool (data, out); scale (data,
    gate, out). Data, residual and out have their natural 4-D shapes, out is NHWC.
    """
    if isinstance(workload, GlobalAveragePool):
        return _average_pool(workload, machine)
    if isinstance(workload, ChannelScale):
        return _channel_scale(workload)
    build = {"pointwise": _matmul, "dense": _matmul, "depthwise": _depthwise, "conv2d": _conv2d, "grouped": _grouped}
    return build[workload.family](workload, machine)


# Builder helpers.


@contextmanager
def _function(name: str, **shapes: Sequence[int]) -> Iterator[tuple[IRBuilder, list[Buffer]]]:
    """A float32 function with these arguments in this order; the builder holds it after the block."""
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name(name)
        tir.func_attr({"global_symbol": name, "tirx.noalias": True})
        yield builder, [tir.arg(arg, tir.buffer(shape, "float32", layout=None)) for arg, shape in shapes.items()]


@contextmanager
def _block(name: str, spatial: Sequence[int], reduction: Sequence[int] = ()) -> Iterator[list[Expr]]:
    """A block inside its own loop nest; gives the block's variables, spatial ones first."""
    extents = [*spatial, *reduction]
    with tir.grid(*extents) as loops, tir.sblock(name):
        loop_list = [loops] if len(extents) == 1 else list(loops)
        split = len(spatial)
        variables = [tir.axis.spatial(e, v) for e, v in zip(spatial, loop_list[:split], strict=True)]
        variables += [tir.axis.reduce(e, v) for e, v in zip(reduction, loop_list[split:], strict=True)]
        yield variables


def _temporary(*shape: int) -> Buffer:
    return tir.sblock_alloc_buffer(shape, "float32", layout=None)


def _covered(extent: int, tile: int) -> int:
    """`extent` rounded up to whole tiles."""
    return tiles.blocks(extent, tile) * tile


def _shifted(position: Expr, extent: int, tile: int) -> Expr:
    """Real position of a position counted in whole tiles: the last tile is moved back until it fits."""
    if extent % tile == 0:
        return position
    return tirx.min(position // tile * tile, extent - tile) + position % tile


# Convolutions.


def _arguments(workload: Conv2d, machine: Machine) -> dict[str, Sequence[int]]:
    shapes: dict[str, Sequence[int]] = {
        "data": workload.data_shape,
        "weight": weight_shape(workload, machine),
        "bias": bias_shape(workload, machine),
    }
    if workload.residual:
        shapes["residual"] = workload.out_shape
    return shapes | {"out": workload.out_shape}


def _finish(workload: Conv2d, value: Expr, arguments: list[Buffer], position: Sequence[Index]) -> None:
    """out[position] = activation(value) [+ residual[position]]; guarded where the channels were padded."""
    result = activate(value, workload.activation)
    if workload.residual:
        result = result + arguments[-2][tuple(position)]
    tir.buffer_store(arguments[-1], result, list(position))


@contextmanager
def _if_real(channel: Expr, channels: int, width: int) -> Iterator[None]:
    """What is inside happens for real channels only; no test where no channels were added to fill a vector."""
    if channels % width == 0:
        yield
        return
    with tir.If(channel < channels), tir.Then():
        yield


def _matmul(workload: Conv2d, machine: Machine) -> PrimFunc:
    """acc[row, n_vector, lane] = bias + sum over k; then the epilogue."""
    tile = tiles.row_tile(workload, machine).rows
    vectors, width = bias_shape(workload, machine)
    rows, channels = workload.rows, workload.out_channels
    with _function(workload.name, **_arguments(workload, machine)) as (builder, arguments):
        data, weight, bias = arguments[:3]
        acc = _temporary(_covered(rows, tile), vectors, width)
        with _block("acc", acc.shape, [workload.in_channels]) as (m, n, lane, k):
            with tir.init():
                tir.buffer_store(acc, bias[n, lane], [m, n, lane])
            product = data[0, 0, _shifted(m, rows, tile), k] * weight[n, 0, 0, k, lane]
            tir.buffer_store(acc, acc[m, n, lane] + product, [m, n, lane])
        with _block("store", acc.shape) as (m, n, lane):
            channel = n * width + lane
            with _if_real(channel, channels, width):
                _finish(workload, acc[m, n, lane], arguments, [0, 0, _shifted(m, rows, tile), channel])
    return builder.get()


def _conv2d(workload: Conv2d, machine: Machine) -> PrimFunc:
    """Padded copy of the input where it has padding; acc[b, y, x, n_vector, lane] over (taps, k); epilogue."""
    tile = tiles.window_tile(workload, machine)
    vectors, width = bias_shape(workload, machine)
    height, columns, channels = workload.out_shape[1:]
    (kh, kw), (sh, sw) = workload.kernel, workload.stride
    with _function(workload.name, **_arguments(workload, machine)) as (builder, arguments):
        data, weight, bias = arguments[:3]
        image = _padded(workload, data) if any(workload.padding) else data
        covered = (_covered(height, tile.rows), _covered(columns, tile.columns))
        acc = _temporary(workload.batch, *covered, vectors, width)
        with _block("acc", acc.shape, [kh, kw, workload.in_channels]) as (b, y, x, n, lane, ky, kx, k):
            with tir.init():
                tir.buffer_store(acc, bias[n, lane], [b, y, x, n, lane])
            iy = _shifted(y, height, tile.rows) * sh + ky
            ix = _shifted(x, columns, tile.columns) * sw + kx
            product = image[_in_layout(workload, b, iy, ix, k)] * weight[n, ky, kx, k, lane]
            tir.buffer_store(acc, acc[b, y, x, n, lane] + product, [b, y, x, n, lane])
        with _block("store", acc.shape) as (b, y, x, n, lane):
            channel = n * width + lane
            position = [b, _shifted(y, height, tile.rows), _shifted(x, columns, tile.columns), channel]
            with _if_real(channel, channels, width):
                _finish(workload, acc[b, y, x, n, lane], arguments, position)
    return builder.get()


def _depthwise(workload: Conv2d, machine: Machine) -> PrimFunc:
    """Padded copy with one vector of channels innermost; acc[b, c_vector, y, x, lane] over taps; epilogue."""
    tile = tiles.window_tile(workload, machine)
    vectors, width = bias_shape(workload, machine)
    height, columns, channels = workload.out_shape[1:]
    (kh, kw), (sh, sw) = workload.kernel, workload.stride
    with _function(workload.name, **_arguments(workload, machine)) as (builder, arguments):
        data, weight, bias = arguments[:3]
        image = _temporary(workload.batch, vectors, (height - 1) * sh + kh, (columns - 1) * sw + kw, width)
        with _block("pad", image.shape) as (b, c, y, x, lane):
            inside = _inside(workload, y, x) + ([c * width + lane < channels] if channels % width else [])
            value = data[b, y - workload.padding[0], x - workload.padding[1], c * width + lane]
            tir.buffer_store(image, _or_zero(inside, value), [b, c, y, x, lane])
        covered = (_covered(height, tile.rows), _covered(columns, tile.columns))
        acc = _temporary(workload.batch, vectors, *covered, width)
        with _block("acc", acc.shape, [kh, kw]) as (b, c, y, x, lane, ky, kx):
            with tir.init():
                tir.buffer_store(acc, bias[c, lane], [b, c, y, x, lane])
            iy = _shifted(y, height, tile.rows) * sh + ky
            ix = _shifted(x, columns, tile.columns) * sw + kx
            product = image[b, c, iy, ix, lane] * weight[c, ky, kx, lane]
            tir.buffer_store(acc, acc[b, c, y, x, lane] + product, [b, c, y, x, lane])
        with _block("store", acc.shape) as (b, c, y, x, lane):
            channel = c * width + lane
            position = [b, _shifted(y, height, tile.rows), _shifted(x, columns, tile.columns), channel]
            with _if_real(channel, channels, width):
                _finish(workload, acc[b, c, y, x, lane], arguments, position)
    return builder.get()


def _grouped(workload: Conv2d, machine: Machine) -> PrimFunc:
    """The plain definition over natural shapes, for the fallback schedule."""
    depth, out_depth = workload.in_channels // workload.groups, workload.out_channels // workload.groups
    (sh, sw), (top, left) = workload.stride, workload.padding[:2]
    with _function(workload.name, **_arguments(workload, machine)) as (builder, arguments):
        data, weight, bias = arguments[:3]
        acc = _temporary(*workload.out_shape)
        with _block("acc", acc.shape, [*workload.kernel, depth]) as (b, y, x, n, ky, kx, k):
            with tir.init():
                tir.buffer_store(acc, bias[n], [b, y, x, n])
            iy, ix, channel = y * sh + ky, x * sw + kx, n // out_depth * depth + k
            value = data[_in_layout(workload, b, iy - top, ix - left, channel)]
            product = _or_zero(_inside(workload, iy, ix), value) * weight[n, ky, kx, k]
            tir.buffer_store(acc, acc[b, y, x, n] + product, [b, y, x, n])
        with _block("store", acc.shape) as position:
            _finish(workload, acc[tuple(position)], arguments, position)
    return builder.get()


def _padded(workload: Conv2d, data: Buffer) -> Buffer:
    """The rows and columns of `data` that the windows read, with the zeros around it, in its own layout."""
    height = (workload.out_height - 1) * workload.stride[0] + workload.kernel[0]
    columns = (workload.out_width - 1) * workload.stride[1] + workload.kernel[1]
    image = _temporary(*_in_layout(workload, workload.batch, height, columns, workload.in_channels))
    with _block("pad", image.shape) as position:
        b, y, x, k = position if workload.data_layout == "NHWC" else [position[i] for i in (0, 2, 3, 1)]
        top, left = workload.padding[:2]
        value = data[_in_layout(workload, b, y - top, x - left, k)]
        tir.buffer_store(image, _or_zero(_inside(workload, y, x), value), position)
    return image


def _in_layout(workload: Conv2d, b: Index, y: Index, x: Index, channel: Index) -> tuple[Index, ...]:
    return (b, y, x, channel) if workload.data_layout == "NHWC" else (b, channel, y, x)


def _inside(workload: Conv2d, y: Expr, x: Expr) -> list[Expr]:
    """Conditions under which a position of the padded image lies in the image; those always true left out."""
    top, left, bottom, right = workload.padding
    conditions = [(top, y >= top), (bottom, y < top + workload.height)]
    conditions += [(left, x >= left), (right, x < left + workload.width)]
    return [condition for needed, condition in conditions if needed]


def _or_zero(conditions: list[Expr], value: Expr) -> Expr:
    if not conditions:
        return value
    return tirx.if_then_else(tirx.all(*conditions), value, tirx.const(0.0, "float32"))


# Squeeze-excite's two ends.


def _average_pool(workload: GlobalAveragePool, machine: Machine) -> PrimFunc:
    """Sums of rows, then of the rows' sums: short chains of additions keep the rounding error small."""
    batch, height, columns, channels = workload.data_shape
    width = tiles.lanes(channels, machine)
    vectors = tiles.blocks(channels, width)
    with _function(workload.name, data=workload.data_shape, out=workload.out_shape) as (builder, (data, out)):
        row_sum, total = _temporary(batch, height, vectors, width), _temporary(batch, vectors, width)
        with _block("row_sum", row_sum.shape, [columns]) as (b, y, c, lane, x):
            with tir.init():
                tir.buffer_store(row_sum, tirx.const(0.0, "float32"), [b, y, c, lane])
            channel = c * width + lane
            value = _or_zero([channel < channels] if channels % width else [], data[b, y, x, channel])
            tir.buffer_store(row_sum, row_sum[b, y, c, lane] + value, [b, y, c, lane])
        with _block("total", total.shape, [height]) as (b, c, lane, y):
            with tir.init():
                tir.buffer_store(total, tirx.const(0.0, "float32"), [b, c, lane])
            tir.buffer_store(total, total[b, c, lane] + row_sum[b, y, c, lane], [b, c, lane])
        with _block("store", total.shape) as (b, c, lane):
            channel = c * width + lane
            with _if_real(channel, channels, width):
                mean = total[b, c, lane] * tirx.const(1.0 / (height * columns), "float32")
                tir.buffer_store(out, mean, [b, 0, 0, channel])
    return builder.get()


def _channel_scale(workload: ChannelScale) -> PrimFunc:
    shapes = {"data": workload.data_shape, "gate": workload.gate_shape, "out": workload.out_shape}
    with _function(workload.name, **shapes) as (builder, arguments), _block("store", workload.data_shape) as position:
        data, gate, out = arguments
        b, channel = position[0], position[3]
        tir.buffer_store(out, data[tuple(position)] * gate[b, 0, 0, channel], position)
    return builder.get()
