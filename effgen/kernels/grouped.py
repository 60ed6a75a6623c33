"""Convolutions in groups, a vector tile and a row at a time.

    for task in parallel(images x chunks of vector tiles x bands of rows):
        for vector tiles of the chunk: for rows of the band:
            ring[slots][columns][k]                    the new rows of the tile's groups: a copy with its border
            acc[columns, vectors, lanes] = bias        in registers
            for ky, kx, k of a group: acc += ring[..] * weight[vector, ky, kx, k, lane]
            out = epilogue(acc)

Where vectors lie inside a group (`effgen.kernels.groups`) the ring has its channels: a float is taken for all lanes.
Where a vector lies across groups each lane wants the channel of its own group: the copy spreads them, so that a vector
of the ring, [k][lane], has for every lane the channel number k of its group. That is done once for all taps.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import (
    Index,
    fewer,
    function,
    loaded_ahead,
    local,
    register_tile,
    run,
    tile_start,
    zero,
)
from effgen.kernels.groups import group_vectors
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.math import finished
from effgen.kernels.window import Geometry
from effgen.machines.machine import Cpu

# Vectors of a pixel that are spread by shuffles: of more, each lane is loaded by itself.
_SHUFFLED = 4


@dataclass(frozen=True)
class GroupedPlan:
    """Output rows of a band; register tile (`columns` x `vectors`, of one group); chunks that the vector tiles are
    shared out to; how many channels are loaded as one vector."""

    rows: int
    columns: int
    vectors: int
    chunks: int
    depth: int = 1


def ring_shape(conv: Conv2d, machine: Cpu) -> tuple[int, int, int]:
    """Of the ring: rows, columns, and floats of a pixel."""
    over = group_vectors(conv.out_channels, conv.out_channels // conv.groups, machine)
    depth = conv.in_channels // conv.groups
    geometry = Geometry(conv, 1, copied=True)
    return conv.window[0], geometry.width, depth if over.wide else depth * over.lanes


def grouped_primfunc(conv: Conv2d, machine: Cpu, plan: GroupedPlan) -> PrimFunc:
    """The finished kernel `conv.name`; its arguments are those of `kernel_arguments`."""
    with function(conv, machine) as (builder, arguments):
        _Grouped(conv, machine, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Grouped:
    """The loop nest; the image's number, the band's first row, the ring and the tile's first vector are set on the
    way."""

    image: Expr
    first_row: Index
    ring: Buffer
    first_vector: Index

    def __init__(self, conv: Conv2d, machine: Cpu, plan: GroupedPlan, arguments: list[Buffer]) -> None:
        self.conv, self.plan = conv, plan
        self.depth, self.width = conv.in_channels // conv.groups, conv.out_channels // conv.groups
        self.over = group_vectors(conv.out_channels, self.width, machine)
        self.geometry = Geometry(conv, plan.rows, copied=True)
        self.slots, self.columns, self.pixel = ring_shape(conv, machine)
        self.on_stack = tiles.fits_stack(4 * self.slots * self.columns * self.pixel, machine)
        self.data, self.weight, self.bias = arguments[:3]
        self.residual = arguments[3] if conv.residual else None
        self.out = arguments[-1]
        self.nhwc = conv.data_layout == "NHWC"

    @property
    def lanes(self) -> int:
        return self.over.lanes

    def write(self) -> None:
        conv, plan = self.conv, self.plan
        vector_tiles = self.over.count // plan.vectors
        per_chunk = tiles.blocks(vector_tiles, plan.chunks)
        chunks, bands = tiles.blocks(vector_tiles, per_chunk), tiles.blocks(conv.out_height, plan.rows)
        with tir.parallel(0, conv.batch * chunks * bands) as task:
            self.image = task // (chunks * bands)
            first_tile = task // bands % chunks * per_chunk
            self.first_row = tile_start(task % bands, conv.out_height, plan.rows)
            scope = "local" if self.on_stack else "global"
            self.ring = tir.alloc_buffer((self.slots, self.columns, self.pixel), "float32", scope=scope, layout=None)
            self.clear_borders()
            with tir.serial(0, fewer(first_tile, per_chunk, vector_tiles)) as index:
                self.first_vector = (first_tile + index) * plan.vectors
                with tir.serial(0, plan.rows) as line:
                    self.copy_rows(line)
                    with tir.serial(0, tiles.blocks(conv.out_width, plan.columns)) as number:
                        self.tile(line, tile_start(number, conv.out_width, plan.columns))

    # Channels.

    def start(self, vector: Index) -> Index:
        """The first output channel of a vector (`GroupVectors.starts`)."""
        if not self.over.wide:
            return tile_start(vector, self.conv.out_channels, self.lanes)
        count = self.over.per_group
        return vector // count * self.width + tile_start(vector % count, self.width, self.lanes)

    # The ring.

    def clear_borders(self) -> None:
        """Zeros left and right of the image: nothing writes there later."""
        inner = self.geometry.inner
        for columns in (range(inner.start), range(inner.stop, self.columns)):
            with tir.serial(0, self.slots) as slot:
                self.clear(slot, columns)

    def clear(self, slot: Expr, columns: range) -> None:
        if columns:
            with run(len(columns) * self.pixel) as float_:
                tir.buffer_store(self.ring, zero(), [slot, columns.start, float_])

    def copy_rows(self, line: Expr) -> None:
        """The rows that output row `line` of the band reads and the one before it did not."""
        stride, step, top = self.geometry.stride[0], self.geometry.steps[0], self.conv.padding[0]
        old = max(0, self.slots - stride)
        first = tirx.Select(line.equal(0), tirx.const(0, "int32"), tirx.const(old, "int32")) if old else 0
        with tir.serial(first, self.slots) as j:
            row = line * stride + j
            source = self.first_row * self.conv.stride[0] + row * step - top
            if not top and not self.conv.padding[2]:
                self.copy_row(source, row % self.slots)
                return
            with tir.If(tirx.all(source >= 0, source < self.conv.height)):
                with tir.Then():
                    self.copy_row(source, row % self.slots)
                with tir.Else():
                    self.clear(row % self.slots, self.geometry.inner)

    def copy_row(self, source: Expr, slot: Expr) -> None:
        inner, step = self.geometry.inner, self.geometry.steps[1]
        with tir.serial(0, len(inner)) as x:
            column = (inner.start + x) * step - self.conv.padding[1]
            place = [slot, inner.start + x]
            if self.over.wide:
                group = self.first_vector // self.over.per_group
                with run(self.depth) as k:
                    value = self.input(source, column, group * self.depth + k)
                    tir.buffer_store(self.ring, value, [*place, k])
            elif self.nhwc and self.lanes % self.width == 0 and self.spread_floats <= _SHUFFLED * self.lanes:
                self.spread(source, column, place)
            else:
                with tir.serial(0, self.depth) as k, tir.vectorized(0, self.lanes) as lane:
                    channel = (self.start(self.first_vector) + lane) // self.width * self.depth + k
                    tir.buffer_store(self.ring, self.input(source, column, channel), [*place, k * self.lanes + lane])

    @property
    def spread_floats(self) -> int:
        """Channels of the groups that a vector lies across."""
        return self.lanes // self.width * self.depth

    def spread(self, source: Expr, column: Expr, place: list[Expr]) -> None:
        """ring[k][lane] = data[k of the lane's group], by shuffles of what lies side by side."""
        first = self.start(self.first_vector) // self.width * self.depth
        data = self.input(source, column, tirx.Ramp(first, 1, self.spread_floats))
        # A shuffle gives no more lanes than it is given: of fewer channels than lanes it is given some twice.
        copies = -(-self.lanes // self.spread_floats)
        for k in range(self.depth):
            picked = [lane // self.width * self.depth + k for lane in range(self.lanes)]
            vector = tirx.Ramp(k * self.lanes, 1, self.lanes)
            tir.buffer_store(self.ring, tirx.Shuffle([data] * copies, picked), [*place, vector])

    def input(self, y: Index, x: Index, channel: Expr) -> Expr:
        return self.data[(self.image, y, x, channel) if self.nhwc else (self.image, channel, y, x)]

    # The products.

    def tile(self, line: Expr, x0: Index) -> None:
        plan, (kh, kw), depth = self.plan, self.conv.kernel, self.plan.depth
        acc = local(plan.columns, plan.vectors, self.lanes)
        with self.over_tile() as (i, v, lane):
            tir.buffer_store(acc, self.bias[self.first_vector + v, lane], [i, v, lane])
        with tir.grid(kh, kw, self.depth // depth) as (ky, kx, outer):
            self.multiply(acc, (line, x0), (ky, kx), outer * depth)
        with self.over_tile() as (i, v, lane):
            place = [self.image, self.first_row + line, x0 + i, self.start(self.first_vector + v) + lane]
            residual = None if self.residual is None else self.residual[tuple(place)]
            tir.buffer_store(self.out, finished(acc[i, v, lane], self.conv, residual), place)

    def multiply(self, acc: Buffer, at: tuple[Index, Index], tap: tuple[Expr, Expr], k: Expr) -> None:
        """acc += ring[columns, k .. k + depth] * weight[vectors, k .. k + depth, lanes]; `at`: line and column."""
        plan, (line, x0), (ky, kx) = self.plan, at, tap
        (sh, sw), (dh, dw) = self.geometry.stride, self.conv.dilation
        slot = (line * sh + ky * dh) % self.slots

        def value(i: Expr, of: Index) -> Expr:
            return self.ring[slot, (x0 + i) * sw + kx * dw, of]

        data = loaded_ahead(plan.columns, plan.depth, lambda i, step: value(i, k + step))
        with tir.unroll(0, plan.depth) as step, self.over_tile() as (i, v, lane):
            weight = self.weight[self.first_vector + v, ky, kx, k + step, lane]
            factor = data(i, step) if self.over.wide else value(i, (k + step) * self.lanes + lane)
            tir.buffer_store(acc, acc[i, v, lane] + factor * weight, [i, v, lane])

    def over_tile(self) -> AbstractContextManager[tuple[Expr, Expr, Expr]]:
        return register_tile(self.plan.columns, self.plan.vectors, self.lanes)
