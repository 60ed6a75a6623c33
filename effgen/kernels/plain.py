"""Kernels as they are defined: blocks over whole arrays, no tile and no loop order chosen, for a scheduler of others.

Arguments, layouts and packed weights are those of our own kernels, so that either may stand in a library. A window
reads an image that was padded before; sums over the window come first, then what is done to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import math
from effgen.kernels.builder import block, function, or_zero, temporary, tile_start, zero
from effgen.kernels.compute import average_pool_primfunc, channel_scale_primfunc
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.operator import Operator
from effgen.kernels.packing import kernel_arguments
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu

#: An image's value at (batch, row, column, channel).
_Image: TypeAlias = Callable[[Expr, Expr, Expr, Expr], Expr]


def is_plain(workload: Workload, machine: Cpu) -> bool:
    """Whether the kernel has a definition here, in float32. Convolutions in groups, mixed depthwise ones, means over
    windows, joined and interleaved images have none, nor has a mean of channels that do not fill their vectors."""
    if isinstance(workload, GlobalAveragePool) and workload.channels % machine.lanes_of(workload.channels):
        return False
    whole = isinstance(workload, (GlobalAveragePool, ChannelScale, Operator))
    return workload.dtype == "float32" and (whole or _writer(workload) is not None)


def plain_primfunc(workload: Workload, machine: Cpu) -> PrimFunc:
    """The definition of the kernel `workload.name`, which `is_plain`."""
    match workload:
        case GlobalAveragePool():
            return average_pool_primfunc(workload, machine)
        case ChannelScale():
            return channel_scale_primfunc(workload, machine)
        case Operator():
            return workload.function
    write = _writer(workload)
    assert write is not None, workload
    with function(workload, machine) as (builder, buffers):
        names = [argument.name for argument in kernel_arguments(workload, machine)]
        write(dict(zip(names, buffers, strict=True)))
    return builder.get()


def _writer(workload: Workload) -> Callable[[dict[str, Buffer]], None] | None:
    match workload:
        case Conv2d() if workload.family != "grouped":
            return lambda arguments: _convolution(workload, arguments)
        case ExpandDepthwise():
            return lambda arguments: _expand_depthwise(workload, arguments)
        case SqueezeExcite():
            return lambda arguments: _squeeze_excite(workload, arguments)
        case Pool2d(mode="max"):
            return lambda arguments: _max_pool(workload, arguments)
    return None


def _convolution(conv: Conv2d, arguments: dict[str, Buffer], prefix: str = "", image: Buffer | None = None) -> None:
    """One convolution, of `image` where that is no argument, into `out` (and `sums_out`)."""
    data = _image_of(conv, arguments["data"]) if image is None else _plain(image)
    gate = arguments.get("gate")
    gated: _Image = data if gate is None else lambda b, y, x, k: data(b, y, x, k) * gate[b, 0, 0, k]
    weight, bias, out = arguments[f"{prefix}weight"], arguments[f"{prefix}bias"], arguments["out"]
    residual = arguments.get("residual")
    sums = _sums(conv, gated, weight, prefix)
    with block(f"{prefix}store", sums.shape) as (b, y, x, *place):
        channel, c, lane = _channel(place, int(bias.shape[1]), conv.out_channels)
        added = None if residual is None else residual[b, y, x, channel]
        value = math.finished(sums[(b, y, x, *place)] + bias[c, lane], conv, added)
        tir.buffer_store(out, value, [b, y, x, channel])
    if conv.row_sums:
        _row_sums(conv, out, arguments["sums_out"])


def _sums(conv: Conv2d, image: _Image, weight: Buffer, prefix: str) -> Buffer:
    """Sums over the window before the bias: [batch, rows, columns, vectors, lanes], or [batch, rows, columns, channels]
    where the last vector is not full: TVM moves a block that has to leave lanes out to where it computes too little."""
    depthwise, lanes = conv.family == "depthwise", int(weight.shape[-1])
    image = _padded(conv, image, prefix) if any(conv.padding) else image
    full = conv.out_channels % lanes == 0
    channels = (conv.out_channels // lanes, lanes) if full else (conv.out_channels,)
    sums = temporary(conv.batch, conv.out_height, conv.out_width, *channels)
    window = [extent for extent in conv.kernel if conv.kernel != (1, 1)]
    depth = [] if depthwise else [conv.in_channels]
    with block(f"{prefix}sums", sums.shape, [*window, *depth] or [1]) as (b, y, x, *places):
        place, steps = places[: len(channels)], places[len(channels) :]
        ky, kx = steps[:2] if window else (0, 0)
        channel, c, lane = _channel(place, lanes, conv.out_channels)
        channel = channel if depthwise else steps[-1]
        row = y * conv.stride[0] + ky * conv.dilation[0]
        column = x * conv.stride[1] + kx * conv.dilation[1]
        taps = [c, ky, kx, lane] if depthwise else [c, ky, kx, channel, lane]
        with tir.init():
            tir.buffer_store(sums, zero(), [b, y, x, *place])
        term = image(b, row, column, channel) * weight[tuple(taps)]
        tir.buffer_store(sums, sums[(b, y, x, *place)] + term, [b, y, x, *place])
    return sums


def _channel(place: Sequence[Expr], lanes: int, channels: int) -> tuple[Expr, Expr, Expr]:
    """Channel, vector and lane of a place (vector, lane) or (channel)."""
    if len(place) == 2:
        return place[0] * lanes + place[1], place[0], place[1]
    vector = place[0] // lanes
    return place[0], vector, place[0] - tile_start(vector, max(channels, lanes), lanes)


def _padded(conv: Conv2d, image: _Image, prefix: str) -> _Image:
    """The image with what is beyond its edges, zeros."""
    top, left, bottom, right = conv.padding
    padded = temporary(conv.batch, conv.height + top + bottom, conv.width + left + right, conv.in_channels)
    with block(f"{prefix}padded", padded.shape) as (b, y, x, c):
        inside = _inside(y, top, bottom, conv.height) + _inside(x, left, right, conv.width)
        tir.buffer_store(padded, or_zero(inside, image(b, y - top, x - left, c)), [b, y, x, c])
    return _plain(padded)


def _inside(position: Expr, before: int, after: int, size: int) -> list[Expr]:
    return [position >= before] * bool(before) + [position < before + size] * bool(after)


def _row_sums(conv: Conv2d, out: Buffer, sums: Buffer) -> None:
    with block("row_sums", sums.shape, [conv.out_width]) as (b, y, c, x):
        with tir.init():
            tir.buffer_store(sums, zero(), [b, y, c])
        tir.buffer_store(sums, sums[b, y, c] + out[b, y, x, c], [b, y, c])


def _expand_depthwise(workload: ExpandDepthwise, arguments: dict[str, Buffer]) -> None:
    """The expanded image lies in memory as a whole, unless the scheduler computes it bit by bit."""
    expanded = temporary(*workload.expand.out_shape)
    _convolution(workload.expand, {**arguments, "out": expanded}, "expand_")
    _convolution(workload.depthwise, arguments, "depthwise_", expanded)


def _squeeze_excite(workload: SqueezeExcite, arguments: dict[str, Buffer]) -> None:
    totals, mean = (temporary(workload.batch, 1, 1, workload.channels) for _ in range(2))
    squeezed = temporary(*workload.squeeze.out_shape)
    with block("totals", totals.shape, [workload.height]) as (b, y, x, c, row):
        with tir.init():
            tir.buffer_store(totals, zero(), [b, y, x, c])
        tir.buffer_store(totals, totals[b, y, x, c] + arguments["sums"][b, row, c], [b, y, x, c])
    with block("mean", mean.shape) as (b, y, x, c):
        share = math.constant(1.0 / (workload.height * workload.width))
        tir.buffer_store(mean, totals[b, y, x, c] * share, [b, y, x, c])
    _convolution(workload.squeeze, {**arguments, "out": squeezed}, "squeeze_", mean)
    _convolution(workload.excite, arguments, "excite_", squeezed)


def _max_pool(workload: Pool2d, arguments: dict[str, Buffer]) -> None:
    data, out = arguments["data"], arguments["out"]
    top, left, *_ = workload.padding
    lowest = -tirx.infinity("float32")
    with block("pool", out.shape, workload.kernel) as (b, y, x, c, ky, kx):
        row = y * workload.stride[0] + ky * workload.dilation[0] - top
        column = x * workload.stride[1] + kx * workload.dilation[1] - left
        with tir.init():
            tir.buffer_store(out, lowest, [b, y, x, c])
        inside: Sequence[Expr] = [row >= 0, row < workload.height, column >= 0, column < workload.width]
        value = data[b, row, column, c]
        if any(workload.padding):
            value = tirx.if_then_else(tirx.all(*inside), value, lowest)
        tir.buffer_store(out, tirx.max(out[b, y, x, c], value), [b, y, x, c])


def _image_of(conv: Conv2d, data: Buffer) -> _Image:
    return _plain(data) if conv.data_layout == "NHWC" else lambda b, y, x, k: data[b, k, y, x]


def _plain(image: Buffer) -> _Image:
    return lambda b, y, x, k: image[b, y, x, k]
