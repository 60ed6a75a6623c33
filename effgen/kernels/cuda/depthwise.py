"""Depthwise convolutions on a GPU, NHWC, with the row sums after them where wanted.

    block (image x band of output rows x group of channels), threads (columns x channel vectors):
        acc[rows, columns, VECTOR] = bias
        for input rows: load the window's columns once; for the output rows that read it, for kx: acc += ...
        out = activation(acc) + residual
        add the columns up through shared memory                             where row sums are wanted

A thread owns four neighbouring channels: a warp's accesses are whole cache lines. Neighbouring threads read the
columns that they share from the first-level cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import function, pairwise
from effgen.kernels.cuda.builder import (
    VECTOR,
    as_float,
    as_type,
    below,
    guarded,
    launch,
    load_vector,
    registers,
    shared,
    synchronise,
)
from effgen.kernels.cuda.math import activate
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.machines.machine import Gpu


@dataclass(frozen=True)
class WindowPlan:
    """A thread computes `rows` x `columns` outputs of VECTOR channels; a block `vectors` of those side by side, and
    whole rows of the image."""

    rows: int
    columns: int
    vectors: int

    def strips(self, conv: Conv2d) -> int:
        """Threads along a row."""
        return tiles.blocks(conv.out_width, self.columns)

    def threads(self, conv: Conv2d) -> int:
        """Threads of a block."""
        return self.strips(conv) * self.vectors


def depthwise_primfunc(workload: Conv2d, machine: Gpu, plan: WindowPlan) -> PrimFunc:
    """The finished kernel `workload.name`; its arguments are those of `kernel_arguments`.

    The channels must be a multiple of VECTOR.
    """
    with function(workload, machine) as (builder, arguments):
        _Depthwise(workload, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Depthwise:
    image: Expr
    first_row: Expr
    strip: Expr
    vector: Expr
    lane_vector: Expr

    def __init__(self, conv: Conv2d, plan: WindowPlan, arguments: list[Buffer]) -> None:
        self.conv, self.plan = conv, plan
        self.data, self.weight, self.bias = arguments[:3]
        self.residual = arguments[3] if conv.residual else None
        self.out = arguments[-2] if conv.row_sums else arguments[-1]
        self.sums = arguments[-1] if conv.row_sums else None
        self.vectors = conv.in_channels // VECTOR

    def write(self) -> None:
        conv, plan = self.conv, self.plan
        bands, groups = tiles.blocks(conv.out_height, plan.rows), tiles.blocks(self.vectors, plan.vectors)
        with launch(conv.batch * bands * groups, plan.threads(conv)) as (block, thread):
            self.image = block // (bands * groups)
            self.first_row = block // groups % bands * plan.rows
            self.lane_vector = thread % plan.vectors
            self.vector = block % groups * plan.vectors + self.lane_vector
            self.strip = thread // plan.vectors
            acc = registers(plan.rows, plan.columns, VECTOR)
            real = below(self.vector, self.vectors, groups * plan.vectors)
            with guarded(real):
                self.accumulate(acc)
                self.store(acc)
            if self.sums is not None:
                self.add_rows(acc, real)

    def accumulate(self, acc: Buffer) -> None:
        (kh, _), (sh, sw), plan = self.conv.kernel, self.conv.stride, self.plan
        channel = self.vector * VECTOR
        with tir.unroll(0, plan.rows) as r, tir.unroll(0, plan.columns) as x:
            load_vector(acc, [r, x, 0], lambda lane: self.bias[0, channel + lane])
        width = (plan.columns - 1) * sw + self.conv.kernel[1]
        line = registers(width, VECTOR)
        for y in range((plan.rows - 1) * sh + kh):
            row = self.first_row * sh + y - self.conv.padding[0]
            with tir.unroll(0, width) as x:
                column = self.strip * (plan.columns * sw) + x - self.conv.padding[1]
                self.load(line, x, row, column, channel)
            for r in range(plan.rows):
                ky = y - r * sh
                if 0 <= ky < kh:
                    self.multiply(acc, line, r, ky, channel)

    def load(self, line: Buffer, x: Expr, row: Expr, column: Expr, channel: Expr) -> None:
        """line[x] = data[row, column], zeros around the image."""
        conv = self.conv
        inside = tirx.all(row >= 0, row < conv.height, column >= 0, column < conv.width)
        with tir.If(inside):
            with tir.Then():
                load_vector(line, [x, 0], lambda lane: as_float(self.data[self.image, row, column, channel + lane]))
            with tir.Else():
                load_vector(line, [x, 0], lambda lane: tirx.const(0.0, "float32"))

    def multiply(self, acc: Buffer, line: Buffer, r: int, ky: int, channel: Expr) -> None:
        """Output row `r` takes its tap row `ky`."""
        with tir.unroll(0, self.conv.kernel[1]) as kx:
            weight = registers(VECTOR)
            load_vector(weight, [0], lambda lane: as_float(self.weight[0, ky, kx, channel + lane]))
            with tir.unroll(0, self.plan.columns) as x, tir.unroll(0, VECTOR) as lane:
                value = line[x * self.conv.stride[1] + kx, lane] * weight[lane]
                tir.buffer_store(acc, acc[r, x, lane] + value, [r, x, lane])

    def position(self, r: Expr, x: Expr) -> tuple[Expr, Expr, list[Expr]]:
        """Output row and column, and the conditions under which they are real."""
        conv, plan = self.conv, self.plan
        row, column = self.first_row + r, self.strip * plan.columns + x
        real = below(row, conv.out_height, tiles.blocks(conv.out_height, plan.rows) * plan.rows)
        return row, column, real + below(column, conv.out_width, plan.strips(conv) * plan.columns)

    def store(self, acc: Buffer) -> None:
        """Activate in place; what lies beyond the image becomes zero, which adds nothing to a sum."""
        channel = self.vector * VECTOR
        with tir.unroll(0, self.plan.rows) as r, tir.unroll(0, self.plan.columns) as x:
            row, column, real = self.position(r, x)
            with tir.unroll(0, VECTOR) as lane:
                tir.buffer_store(acc, activate(acc[r, x, lane], self.conv.activation), [r, x, lane])
            with guarded(real), tir.vectorized(0, VECTOR) as lane:
                value = acc[r, x, lane]
                if self.residual is not None:
                    value = value + as_float(self.residual[self.image, row, column, channel + lane])
                place = [self.image, row, column, channel + lane]
                tir.buffer_store(self.out, as_type(value, self.conv.dtype), place)

    def add_rows(self, acc: Buffer, real_channel: list[Expr]) -> None:
        """sums[row] = the row's outputs added up: by each thread its own, then over the threads of the row."""
        assert self.sums is not None
        plan, strips, channel = self.plan, self.plan.strips(self.conv), self.vector * VECTOR
        shares = shared(plan.rows, strips, plan.vectors, VECTOR)
        with tir.unroll(0, plan.rows) as r, tir.unroll(0, VECTOR) as lane:
            values = []
            for x in range(plan.columns):
                _, column, _ = self.position(r, x)
                beyond = below(column, self.conv.out_width, strips * plan.columns)
                value = acc[r, x, lane]
                values.append(tirx.if_then_else(beyond[0], value, tirx.const(0.0, "float32")) if beyond else value)
            tir.buffer_store(shares, pairwise(values), [r, self.strip, self.lane_vector, lane])
        synchronise()
        with tir.If(self.strip.equal(0)), tir.Then(), tir.unroll(0, plan.rows) as r:
            real = below(self.first_row + r, self.conv.out_height, self.covered_rows)
            with guarded(real + real_channel):
                self.store_sums(shares, r, channel, strips)

    @property
    def covered_rows(self) -> int:
        return tiles.blocks(self.conv.out_height, self.plan.rows) * self.plan.rows

    def store_sums(self, shares: Buffer, r: Expr, channel: Expr, strips: int) -> None:
        total = registers(VECTOR)
        load_vector(total, [0], lambda lane: tirx.const(0.0, "float32"))
        with tir.serial(0, strips) as strip, tir.unroll(0, VECTOR) as lane:
            tir.buffer_store(total, total[lane] + shares[r, strip, self.lane_vector, lane], [lane])
        with tir.vectorized(0, VECTOR) as lane:
            tir.buffer_store(self.sums, total[lane], [self.image, self.first_row + r, channel + lane])
