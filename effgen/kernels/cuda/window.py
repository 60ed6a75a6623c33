"""Dense windows on a GPU: the stem, which reads the user's image (NCHW), and other convolutions of one group.

block (tile of output positions), threads (strips of columns x channel vectors):
    acc[columns, VECTOR] = bias
    for ky, kx, k: acc += data[.., k] * weight[ky, kx, k]
    out = activation(acc) + residual      (in either order)
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import function
from effgen.kernels.cuda.builder import VECTOR, as_float, as_type, below, guarded, launch, load_vector, registers
from effgen.kernels.cuda.math import finished
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import bias_shape
from effgen.machines.machine import Gpu


@dataclass(frozen=True)
class StripPlan:
    """A thread computes `columns` outputs of VECTOR channels; a block has `threads`."""

    columns: int
    threads: int


def window_primfunc(workload: Conv2d, machine: Gpu, plan: StripPlan) -> PrimFunc:
    """The finished kernel `workload.name`; its arguments are those of `kernel_arguments`.

    The output channels must be a multiple of VECTOR.
    """
    with function(workload, machine) as (builder, arguments):
        _Window(workload, machine, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Window:
    image: Expr
    row: Expr
    strip: Expr
    channel: Expr

    def __init__(self, conv: Conv2d, machine: Gpu, plan: StripPlan, arguments: list[Buffer]) -> None:
        self.conv, self.plan = conv, plan
        self.data, self.weight, self.bias = arguments[:3]
        self.residual = arguments[3] if conv.residual else None
        self.out = arguments[-1]
        self.vectors = min(bias_shape(conv, machine)[1], conv.out_channels) // VECTOR

    def write(self) -> None:
        conv, plan = self.conv, self.plan
        strips = tiles.blocks(conv.out_width, plan.columns)
        total = conv.batch * conv.out_height * strips * self.vectors
        blocks = tiles.blocks(total, plan.threads)
        with launch(blocks, plan.threads) as (block, thread):
            number = block * plan.threads + thread
            with guarded(below(number, total, blocks * plan.threads)):
                self.channel = number % self.vectors * VECTOR
                self.strip = number // self.vectors % strips
                self.row = number // (self.vectors * strips) % conv.out_height
                self.image = number // (self.vectors * strips * conv.out_height)
                self.strip_of_outputs()

    def strip_of_outputs(self) -> None:
        conv, plan = self.conv, self.plan
        acc = registers(plan.columns, VECTOR)
        with tir.unroll(0, plan.columns) as x:
            load_vector(acc, [x, 0], lambda lane: self.bias[0, self.channel + lane])
        weight, value = registers(VECTOR), registers(1)
        with tir.unroll(0, conv.kernel[0]) as ky, tir.unroll(0, conv.kernel[1]) as kx:
            with tir.serial(0, conv.in_channels) as k:
                place = self.channel
                load_vector(weight, [0], lambda lane: as_float(self.weight[0, ky, kx, k, place + lane]))
                with tir.unroll(0, plan.columns) as x:
                    tir.buffer_store(value, self.pixel(ky, kx, x, k), [0])
                    with tir.unroll(0, VECTOR) as lane:
                        tir.buffer_store(acc, acc[x, lane] + value[0] * weight[lane], [x, lane])
        self.store(acc)

    def pixel(self, ky: Expr, kx: Expr, x: Expr, k: Expr) -> Expr:
        conv = self.conv
        row = self.row * conv.stride[0] + ky * conv.dilation[0] - conv.padding[0]
        column = (self.strip * self.plan.columns + x) * conv.stride[1] + kx * conv.dilation[1] - conv.padding[1]
        inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
        place = (self.image, row, column, k) if conv.data_layout == "NHWC" else (self.image, k, row, column)
        return tirx.if_then_else(inside, as_float(self.data[place]), tirx.const(0.0, "float32"))

    def store(self, acc: Buffer) -> None:
        conv, plan = self.conv, self.plan
        covered = tiles.blocks(conv.out_width, plan.columns) * plan.columns
        with tir.unroll(0, plan.columns) as x:
            column = self.strip * plan.columns + x
            with guarded(below(column, conv.out_width, covered)), tir.vectorized(0, VECTOR) as lane:
                place = [self.image, self.row, column, self.channel + lane]
                residual = None if self.residual is None else as_float(self.residual[tuple(place)])
                value = finished(acc[x, lane], conv, residual)
                tir.buffer_store(self.out, as_type(value, conv.dtype), place)
