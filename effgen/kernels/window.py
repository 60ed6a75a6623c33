"""Dense windows: 3x3, 7x7, 1x7 ... convolutions of one group, and 1x1 ones that are strided or padded.

    for task in parallel(images x chunks of vector tiles x bands of rows):
        image[slices][rows][columns][channels]                 the band with its border: a copy, or where it lies
        for vector tiles of the chunk: for slices of channels: for tiles of the band's positions:
            acc[columns, vectors, lanes] = bias                in registers; from the second slice on what is kept
            for ky, kx: for k of the slice:                    `depth` of k at a time
                acc += image[.., k] * weight[vector, ky, kx, k, lane]
            out = epilogue(acc)                                but for the last slice: acc is kept

A slice of channels is as short as its weights stay in the nearest cache while all tiles of the band use them, one after
another; meanwhile the next slice is asked for.

The copy leaves out what a 1x1 window steps over: its positions lie side by side then, whatever the stride, and a tile
may reach over the end of a row. Slices lie one after the other in it; where there is one slice of many channels, pixels
are set apart: at a power of two they would fall into few sets of the cache. The image as the user has it (NCHW) is
copied as it is: a float for all lanes comes from any address. The last tile or band is moved back until it fits
(`effgen.kernels.matmul`).
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
    channel_of,
    fewer,
    function,
    if_real,
    loaded_ahead,
    local,
    prefetch,
    register_tile,
    run,
    tile_start,
    zero,
)
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.math import finished
from effgen.kernels.packing import bias_shape
from effgen.machines.machine import Cpu

# Pixels of a multiple of so many channels (a quarter of a page) would share sets of the nearest cache.
_SHARED_SETS = 256
_LINE_FLOATS = 16
# Channels between two looks ahead, at most.
_STEP = 16


@dataclass(frozen=True)
class WindowPlan:
    """Output rows of a band; register tile (`columns` x `vectors`); chunks that the vector tiles are shared out to;
    channels of a slice (a divisor of all), and how many are loaded as one vector; whether the band's input is copied
    (it must be where there is padding), whether the next slice of weights is asked for.
    """

    rows: int
    columns: int
    vectors: int
    chunks: int
    slice: int
    depth: int = 1
    copied: bool = True
    prefetch: bool = False


@dataclass(frozen=True)
class Geometry:
    """The input of a band of `rows` output rows, as the tiles read it."""

    conv: Conv2d
    rows: int
    copied: bool

    @property
    def steps(self) -> tuple[int, int]:
        """Rows and columns of the input from one of the copy to the next: a 1x1 window leaves some out."""
        kernel, stride = self.conv.kernel, self.conv.stride
        return tuple(s if self.copied and k == 1 else 1 for k, s in zip(kernel, stride, strict=True))  # type: ignore[return-value]

    @property
    def stride(self) -> tuple[int, int]:
        """Of the windows, in what they read."""
        stride, steps = self.conv.stride, self.steps
        return stride[0] // steps[0], stride[1] // steps[1]

    @property
    def height(self) -> int:
        """Rows of the copy."""
        return (self.rows - 1) * self.stride[0] + self.conv.window[0]

    @property
    def width(self) -> int:
        """Columns of the copy."""
        return (self.conv.out_width - 1) * self.stride[1] + self.conv.window[1]

    @property
    def pixel(self) -> int:
        """Floats from one pixel of the copy to the next (NHWC)."""
        channels = self.conv.in_channels
        return channels + (_LINE_FLOATS if channels % _SHARED_SETS == 0 else 0)

    @property
    def bytes(self) -> int:
        """Of the band's input: of the copy, or of what is read where it lies."""
        return 4 * self.height * self.width * self.pixel

    @property
    def lines(self) -> tuple[int, int]:
        """How many runs of output positions that tiles may be cut from, and positions of each."""
        flat = self.copied and self.conv.kernel == (1, 1)
        return (1, self.rows * self.conv.out_width) if flat else (self.rows, self.conv.out_width)

    @property
    def inner(self) -> range:
        """Columns of the copy that lie in the image."""
        step, left = self.steps[1], self.conv.padding[1]
        inside = [x for x in range(self.width) if 0 <= x * step - left < self.conv.width]
        return range(inside[0], inside[-1] + 1) if inside else range(0)


def window_primfunc(conv: Conv2d, machine: Cpu, plan: WindowPlan) -> PrimFunc:
    """The finished kernel `conv.name`; its arguments are those of `kernel_arguments`."""
    with function(conv, machine) as (builder, arguments):
        _Window(conv, machine, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Window:
    """The loop nest; `image` (its number), the band's first row and its input are set when a task begins."""

    image: Expr
    first_row: Index
    copy: Buffer | None = None
    kept: Buffer | None = None

    def __init__(self, conv: Conv2d, machine: Cpu, plan: WindowPlan, arguments: list[Buffer]) -> None:
        self.conv, self.plan = conv, plan
        self.geometry = Geometry(conv, plan.rows, plan.copied)
        self.blocks, self.lanes = bias_shape(conv, machine)
        self.data, self.weight, self.bias = arguments[:3]
        self.residual = arguments[3] if conv.residual else None
        self.out = arguments[-1]
        self.lines, self.positions = self.geometry.lines
        self.nhwc = conv.data_layout == "NHWC"
        self.slices = conv.in_channels // plan.slice
        self.tiles_of_line = tiles.blocks(self.positions, plan.columns)

    def write(self) -> None:
        conv, plan = self.conv, self.plan
        vector_tiles = tiles.blocks(self.blocks, plan.vectors)
        per_chunk = tiles.blocks(vector_tiles, plan.chunks)
        chunks, bands = tiles.blocks(vector_tiles, per_chunk), tiles.blocks(conv.out_height, plan.rows)
        with tir.parallel(0, conv.batch * chunks * bands) as task:
            self.image = task // (chunks * bands)
            first_tile = task // bands % chunks * per_chunk
            self.first_row = tile_start(task % bands, conv.out_height, plan.rows)
            if plan.copied:
                self.copy_band()
            if self.slices > 1:
                shape = (self.tiles_of_slice, plan.columns, plan.vectors, self.lanes)
                self.kept = tir.alloc_buffer(shape, "float32", scope="global", layout=None)
            with tir.serial(0, fewer(first_tile, per_chunk, vector_tiles)) as vector_tile:
                first_vector = tile_start(first_tile + vector_tile, self.blocks, plan.vectors)
                with tir.grid(self.slices, self.lines, self.tiles_of_line) as (part, line, index):
                    self.tile(line, index, first_vector, part)

    @property
    def tiles_of_slice(self) -> int:
        """Tiles that use one slice of weights."""
        return self.lines * self.tiles_of_line

    # The band's input.

    def copy_band(self) -> None:
        geometry, channels = self.geometry, self.conv.in_channels
        step, (top, _, bottom, _) = geometry.steps[0], self.conv.padding
        shape = (self.slices, geometry.height, geometry.width, self.pixel)
        shape = shape if self.nhwc else (1, channels, geometry.height, geometry.width)
        self.copy = tir.alloc_buffer(shape, "float32", scope="global", layout=None)
        with tir.serial(0, geometry.height) as row:
            source = self.first_row * self.conv.stride[0] + row * step - top
            if not top and not bottom:
                self.copy_row(source, row)
                return
            with tir.If(tirx.all(source >= 0, source < self.conv.height)):
                with tir.Then():
                    self.copy_row(source, row)
                with tir.Else():
                    self.clear(row, range(geometry.width))

    def copy_row(self, source: Expr, row: Expr) -> None:
        inner, width = self.geometry.inner, self.geometry.width
        if not inner:
            self.clear(row, range(width))
            return
        self.clear(row, range(inner.start))
        self.clear(row, range(inner.stop, width))
        step, first = self.geometry.steps[1], inner.start * self.geometry.steps[1] - self.conv.padding[1]
        count, channels = len(inner), self.conv.in_channels
        if not self.nhwc:
            with tir.serial(0, channels) as k, run(count) as x:
                value = self.data[self.image, k, source, first + x * step]
                tir.buffer_store(self.copy, value, [0, k, row, inner.start + x])
        elif step == 1 and self.pixel == channels:
            with run(count * channels) as float_:
                value = self.data[self.image, source, first, float_]
                tir.buffer_store(self.copy, value, [0, row, inner.start, float_])
        else:
            with tir.grid(count, self.slices) as (x, part), run(self.plan.slice) as k:
                value = self.data[self.image, source, first + x * step, part * self.plan.slice + k]
                tir.buffer_store(self.copy, value, [part, row, inner.start + x, k])

    def clear(self, row: Expr, columns: range) -> None:
        """Zeros in these columns of a row of the copy."""
        if not columns:
            return
        if self.nhwc:
            with tir.serial(0, self.slices) as part, run(len(columns) * self.pixel) as float_:
                tir.buffer_store(self.copy, zero(), [part, row, columns.start, float_])
        else:
            with tir.serial(0, self.conv.in_channels) as k, run(len(columns)) as x:
                tir.buffer_store(self.copy, zero(), [0, k, row, columns.start + x])

    @property
    def pixel(self) -> int:
        """Floats from one pixel of the copy to the next (NHWC): a slice's channels."""
        return self.plan.slice if self.slices > 1 else self.geometry.pixel

    def input(self, y: Index, x: Index, part: Index, k: Index) -> Expr:
        """A value of the band, by row and column of what a copy of it has; channel `k` of a slice."""
        if not self.nhwc:
            k = part * self.plan.slice + k
        if self.copy is not None:
            return self.copy[(part, y, x, k) if self.nhwc else (0, k, y, x)]
        row = self.first_row * self.conv.stride[0] + y
        return self.data[(self.image, row, x, part * self.plan.slice + k) if self.nhwc else (self.image, k, row, x)]

    # The products.

    def tile(self, line: Expr, index: Expr, first_vector: Index, part: Expr) -> None:
        """Slice number `part` of tile number `index` of a line."""
        plan, (kh, kw) = self.plan, self.conv.kernel
        x0, number = tile_start(index, self.positions, plan.columns), line * self.tiles_of_line + index
        acc = local(plan.columns, plan.vectors, self.lanes)
        self.begin(acc, first_vector, part, number)
        step = tiles.largest_step(plan.slice, _STEP, plan.depth) if plan.prefetch else plan.slice
        with tir.grid(kh, kw, plan.slice // step) as (ky, kx, outer):
            if plan.prefetch:
                self.prefetch_next(first_vector, part, number, (ky, kx, outer * step), step)
            with tir.serial(0, step // plan.depth) as inner:
                k = outer * step + inner * plan.depth
                self.multiply(acc, (line, x0), (ky, kx, part, k), first_vector)
        if self.kept is None:
            self.store(acc, line, x0, first_vector)
            return
        with tir.If(part < self.slices - 1):
            with tir.Then(), self.over_tile() as (i, v, lane):
                tir.buffer_store(self.kept, acc[i, v, lane], [number, i, v, lane])
            with tir.Else():
                self.store(acc, line, x0, first_vector)

    def begin(self, acc: Buffer, first_vector: Index, part: Expr, number: Expr) -> None:
        """acc = bias, or what the slices so far have added to it. (Tiles that share positions keep each its own.)"""
        if self.kept is None:
            with self.over_tile() as (i, v, lane):
                tir.buffer_store(acc, self.bias[first_vector + v, lane], [i, v, lane])
            return
        with tir.If(part.equal(0)):
            with tir.Then(), self.over_tile() as (i, v, lane):
                tir.buffer_store(acc, self.bias[first_vector + v, lane], [i, v, lane])
            with tir.Else(), self.over_tile() as (i, v, lane):
                tir.buffer_store(acc, self.kept[number, i, v, lane], [i, v, lane])

    def multiply(self, acc: Buffer, at: tuple[Index, Index], of: tuple[Expr, Expr, Expr, Expr], vector: Index) -> None:
        """acc += image[columns, k .. k + depth] * weight[vectors, k .. k + depth, lanes]; `at`: line and column, `of`:
        tap, slice and its channel, `vector`: the first."""
        plan, (line, x0), (ky, kx, part, k) = self.plan, at, of
        (sh, sw), (dh, dw) = self.geometry.stride, self.conv.dilation

        def value(i: Expr, step: Index) -> Expr:
            return self.input(line * sh + ky * dh, (x0 + i) * sw + kx * dw, part, k + step)

        data = loaded_ahead(plan.columns, plan.depth, value)
        with tir.unroll(0, plan.depth) as step, self.over_tile() as (i, v, lane):
            weight = self.weight[vector + v, ky, kx, part * plan.slice + k + step, lane]
            tir.buffer_store(acc, acc[i, v, lane] + data(i, step) * weight, [i, v, lane])

    def store(self, acc: Buffer, line: Expr, x0: Index, first_vector: Index) -> None:
        with self.over_tile() as (i, v, lane):
            channel = channel_of(first_vector + v, lane, self.conv.out_channels, self.lanes)
            with if_real(channel, self.conv.out_channels, self.lanes):
                place = [self.image, self.first_row + line, x0 + i, channel]
                residual = None if self.residual is None else self.residual[tuple(place)]
                tir.buffer_store(self.out, finished(acc[i, v, lane], self.conv, residual), place)

    def over_tile(self) -> AbstractContextManager[tuple[Expr, Expr, Expr]]:
        return register_tile(self.plan.columns, self.plan.vectors, self.lanes)

    def prefetch_next(
        self, first_vector: Index, part: Expr, number: Expr, of: tuple[Expr, Expr, Expr], step: int
    ) -> None:
        """A tile's share of `step` channels of one tap of the next slice, this panel's or the next panel's first; `of`:
        the tap, and the first channel in the slice."""
        (ky, kx, first_k), plan, lines = of, self.plan, step * self.plan.vectors
        each = tiles.blocks(lines, self.tiles_of_slice)
        last = part.equal(self.slices - 1)
        vector = first_vector + tirx.Select(last, tirx.const(plan.vectors, "int32"), tirx.const(0, "int32"))
        k = tirx.Select(last, tirx.const(0, "int32"), (part + 1) * plan.slice) + first_k
        with tir.unroll(0, each) as i:
            line = tirx.min(number * each + i, lines - 1)
            prefetch(self.weight, [vector + line // step, ky, kx, k + line % step, 0])
