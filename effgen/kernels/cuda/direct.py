"""Any convolution on a GPU, term by term: those of several groups, and those whose channels no vector divides.

A thread computes one output, or a channel's whole row of them where row sums are wanted.
"""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import function
from effgen.kernels.cuda.builder import as_float, as_type, below, guarded, launch, registers
from effgen.kernels.cuda.math import finished
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import input_shapes
from effgen.machines.machine import Gpu


def direct_primfunc(workload: Conv2d, machine: Gpu, threads: int) -> PrimFunc:
    """The finished kernel `workload.name`; its arguments are those of `kernel_arguments`."""
    with function(workload, machine) as (builder, arguments):
        _Direct(workload, machine, arguments).write(threads)
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Direct:
    image: Expr
    row: Expr
    channel: Expr

    def __init__(self, conv: Conv2d, machine: Gpu, arguments: list[Buffer]) -> None:
        self.conv = conv
        named = dict(zip(input_shapes(conv, machine), arguments, strict=False))
        self.data, self.weight, self.bias = arguments[:3]
        self.gate, self.residual = named.get("gate"), named.get("residual")
        self.out = arguments[-2] if conv.row_sums else arguments[-1]
        self.sums = arguments[-1] if conv.row_sums else None

    def write(self, threads: int) -> None:
        conv = self.conv
        columns = conv.out_width if conv.row_sums else 1
        strips = conv.out_width // columns
        total = conv.batch * conv.out_height * strips * conv.out_channels
        blocks = tiles.blocks(total, threads)
        with launch(blocks, threads) as (block, thread):
            number = block * threads + thread
            with guarded(below(number, total, blocks * threads)):
                self.channel = number % conv.out_channels
                strip = number // conv.out_channels % strips
                self.row = number // (conv.out_channels * strips) % conv.out_height
                self.image = number // (conv.out_channels * strips * conv.out_height)
                self.write_outputs(strip, columns)

    def write_outputs(self, strip: Expr, columns: int) -> None:
        acc, total = registers(1), registers(1)
        tir.buffer_store(total, tirx.const(0.0, "float32"), [0])
        with tir.serial(0, columns) as x:
            column = strip * columns + x
            self.accumulate(acc, column)
            place = [self.image, self.row, column, self.channel]
            residual = None if self.residual is None else as_float(self.residual[tuple(place)])
            tir.buffer_store(acc, finished(acc[0], self.conv, residual), [0])
            tir.buffer_store(total, total[0] + acc[0], [0])
            tir.buffer_store(self.out, as_type(acc[0], self.conv.dtype), place)
        if self.sums is not None:
            tir.buffer_store(self.sums, total[0], [self.image, self.row, self.channel])

    def accumulate(self, acc: Buffer, column: Expr) -> None:
        """acc = bias + the window's products; taps outside the image are left out."""
        conv = self.conv
        depth, share = conv.in_channels // conv.groups, conv.out_channels // conv.groups
        tir.buffer_store(acc, self.bias[0, self.channel], [0])
        with tir.grid(*conv.kernel, depth) as (ky, kx, k):
            y = self.row * conv.stride[0] + ky * conv.dilation[0] - conv.padding[0]
            x = column * conv.stride[1] + kx * conv.dilation[1] - conv.padding[1]
            with guarded([y >= 0, y < conv.height, x >= 0, x < conv.width]):
                value = self.pixel(y, x, self.channel // share * depth + k) * self.factor(ky, kx, k)
                tir.buffer_store(acc, acc[0] + value, [0])

    def pixel(self, y: Expr, x: Expr, channel: Expr) -> Expr:
        nhwc = self.conv.data_layout == "NHWC"
        value = as_float(self.data[(self.image, y, x, channel) if nhwc else (self.image, channel, y, x)])
        return value if self.gate is None else value * self.gate[self.image, 0, 0, channel]

    def factor(self, ky: Expr, kx: Expr, k: Expr) -> Expr:
        """The weight, packed as its family is (`effgen.kernels.packing.weight_shape`)."""
        by_channel = self.conv.family == "depthwise"
        return as_float(self.weight[(0, ky, kx, self.channel) if by_channel else (0, ky, kx, k, self.channel)])
