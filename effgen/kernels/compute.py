"""Definitions of kernels, block by block, still without any schedule: the rules in `schedules/` transform them."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import Index, block, function, if_real, or_zero, temporary
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.math import finished
from effgen.machines.machine import Cpu, Machine


def _finish(workload: Conv2d, value: Expr, arguments: list[Buffer], position: Sequence[Index]) -> None:
    """out[position] = the convolution's result for a sum; guarded where the channels were padded."""
    residual = arguments[-2][tuple(position)] if workload.residual else None
    tir.buffer_store(arguments[-1], finished(value, workload, residual), list(position))


def grouped_primfunc(workload: Conv2d, machine: Machine) -> PrimFunc:
    """The plain definition over natural shapes, for the fallback schedule."""
    depth, out_depth = workload.in_channels // workload.groups, workload.out_channels // workload.groups
    (sh, sw), (dh, dw), (top, left) = workload.stride, workload.dilation, workload.padding[:2]
    with function(workload, machine) as (builder, arguments):
        data, weight, bias = arguments[:3]
        acc = temporary(*workload.out_shape)
        with block("acc", acc.shape, [*workload.kernel, depth]) as (b, y, x, n, ky, kx, k):
            with tir.init():
                tir.buffer_store(acc, bias[n], [b, y, x, n])
            iy, ix, channel = y * sh + ky * dh, x * sw + kx * dw, n // out_depth * depth + k
            value = data[_in_layout(workload, b, iy - top, ix - left, channel)]
            product = or_zero(_inside(workload, iy, ix), value) * weight[n, ky, kx, k]
            tir.buffer_store(acc, acc[b, y, x, n] + product, [b, y, x, n])
        with block("store", acc.shape) as position:
            _finish(workload, acc[tuple(position)], arguments, position)
    return builder.get()


def _in_layout(workload: Conv2d, b: Index, y: Index, x: Index, channel: Index) -> tuple[Index, ...]:
    return (b, y, x, channel) if workload.data_layout == "NHWC" else (b, channel, y, x)


def _inside(workload: Conv2d, y: Expr, x: Expr) -> list[Expr]:
    """Conditions under which a position of the padded image lies in the image; those always true left out."""
    top, left, bottom, right = workload.padding
    conditions = [(top, y >= top), (bottom, y < top + workload.height)]
    conditions += [(left, x >= left), (right, x < left + workload.width)]
    return [condition for needed, condition in conditions if needed]


def average_pool_primfunc(workload: GlobalAveragePool, machine: Cpu) -> PrimFunc:
    """Blocks `row_sum`, `total`, `store`: short chains of additions keep the rounding error small."""
    batch, height, columns, channels = workload.data_shape
    width = machine.lanes_of(channels)
    vectors = tiles.blocks(channels, width)
    with function(workload, machine) as (builder, (data, out)):
        row_sum, total = temporary(batch, height, vectors, width), temporary(batch, vectors, width)
        with block("row_sum", row_sum.shape, [columns]) as (b, y, c, lane, x):
            with tir.init():
                tir.buffer_store(row_sum, tirx.const(0.0, "float32"), [b, y, c, lane])
            channel = c * width + lane
            value = or_zero([channel < channels] if channels % width else [], data[b, y, x, channel])
            tir.buffer_store(row_sum, row_sum[b, y, c, lane] + value, [b, y, c, lane])
        with block("total", total.shape, [height]) as (b, c, lane, y):
            with tir.init():
                tir.buffer_store(total, tirx.const(0.0, "float32"), [b, c, lane])
            tir.buffer_store(total, total[b, c, lane] + row_sum[b, y, c, lane], [b, c, lane])
        with block("store", total.shape) as (b, c, lane):
            channel = c * width + lane
            with if_real(channel, channels, width):
                mean = total[b, c, lane] * tirx.const(1.0 / (height * columns), "float32")
                tir.buffer_store(out, mean, [b, 0, 0, channel])
    return builder.get()


def channel_scale_primfunc(workload: ChannelScale, machine: Cpu) -> PrimFunc:
    with function(workload, machine) as (builder, arguments), block("store", workload.data_shape) as position:
        data, gate, out = arguments
        b, channel = position[0], position[3]
        tir.buffer_store(out, data[tuple(position)] * gate[b, 0, 0, channel], position)
    return builder.get()
