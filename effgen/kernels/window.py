"""Dense windows: 3x3, 7x7, 1x7 ... convolutions of one group, and 1x1 ones that are strided or padded.

    for task in parallel(images x chunks of vector tiles x bands of rows):
        image[rows][columns][channels]                         the band with its border: a copy, or where it lies
        for vector tiles of the chunk: for tiles of the band's positions:
            acc[columns, vectors, lanes] = bias                in registers
            for blocks of channels: for ky, kx: for k:         `depth` of k at a time
                acc += image[.., k] * weight[vector, ky, kx, k, lane]
            out = epilogue(acc)

A panel of weights (a vector tile's) is used by all tiles of the band, one after another, while the next panel is asked
for. A block of channels is as long as the window's rows of it stay in the nearest cache, where all taps read them.

The copy leaves out what a 1x1 window steps over: its positions lie side by side then, whatever the stride, and a tile
may reach over the end of a row. Pixels of many channels are set apart in it: at a power of two they would fall into
few sets of the cache. The image as the user has it (NCHW) is copied as it is: a float for all lanes comes from any
address. The last tile or band is moved back until it fits (`effgen.kernels.matmul`).
"""

from __future__ import annotations

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
    if_real,
    loaded_ahead,
    local,
    prefetch,
    register_tile,
    run,
    tile_start,
    zero,
)
from effgen.kernels.math import finished
from effgen.kernels.packing import bias_shape
from effgen.kernels.workload import Conv2d
from effgen.target import Machine

# Pixels of a multiple of so many channels (a quarter of a page) would share sets of the nearest cache.
_SHARED_SETS = 256
_LINE_FLOATS = 16
# Channels between two looks ahead, at most.
_LONGEST_STEP = 32


@dataclass(frozen=True)
class WindowPlan:
    """Output rows of a band; register tile (`columns` x `vectors`); chunks that the vector tiles are shared out to;
    channels of a block of the reduction (a divisor of all), and how many are loaded as one vector; whether the band's
    input is copied (it must be where there is padding), whether the next panel of weights is asked for.
    """

    rows: int
    columns: int
    vectors: int
    chunks: int
    block: int
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


def window_primfunc(conv: Conv2d, machine: Machine, plan: WindowPlan) -> PrimFunc:
    """The finished kernel `conv.name`; its arguments are those of `input_shapes` and `output_shapes`."""
    with function(conv, machine) as (builder, arguments):
        _Window(conv, machine, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Window:
    """The loop nest; `image` (its number), the band's first row and its input are set when a task begins."""

    image: Expr
    first_row: Index
    copy: Buffer | None = None

    def __init__(self, conv: Conv2d, machine: Machine, plan: WindowPlan, arguments: list[Buffer]) -> None:
        self.conv, self.plan = conv, plan
        self.geometry = Geometry(conv, plan.rows, plan.copied)
        self.blocks, self.lanes = bias_shape(conv, machine)
        self.data, self.weight, self.bias = arguments[:3]
        self.residual = arguments[3] if conv.residual else None
        self.out = arguments[-1]
        self.lines, self.positions = self.geometry.lines
        self.nhwc = conv.data_layout == "NHWC"

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
            with tir.serial(0, fewer(first_tile, per_chunk, vector_tiles)) as vector_tile:
                first_vector = tile_start(first_tile + vector_tile, self.blocks, plan.vectors)
                per_line = tiles.blocks(self.positions, plan.columns)
                with tir.grid(self.lines, per_line) as (line, index):
                    x0 = tile_start(index, self.positions, plan.columns)
                    self.tile(line, x0, first_vector, line * per_line + index)

    # The band's input.

    def copy_band(self) -> None:
        geometry, channels = self.geometry, self.conv.in_channels
        step, (top, _, bottom, _) = geometry.steps[0], self.conv.padding
        shape = (geometry.height, geometry.width, geometry.pixel)
        shape = shape if self.nhwc else (channels, geometry.height, geometry.width)
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
        self.clear(row, range(inner.start))
        self.clear(row, range(inner.stop, width))
        step, first = self.geometry.steps[1], inner.start * self.geometry.steps[1] - self.conv.padding[1]
        count, channels = len(inner), self.conv.in_channels
        if not self.nhwc:
            with tir.serial(0, channels) as k, run(count) as x:
                value = self.data[self.image, k, source, first + x * step]
                tir.buffer_store(self.copy, value, [k, row, inner.start + x])
        elif step == 1 and self.geometry.pixel == channels:
            with run(count * channels) as float_:
                value = self.data[self.image, source, first, float_]
                tir.buffer_store(self.copy, value, [row, inner.start, float_])
        else:
            with tir.serial(0, count) as x, run(channels) as k:
                value = self.data[self.image, source, first + x * step, k]
                tir.buffer_store(self.copy, value, [row, inner.start + x, k])

    def clear(self, row: Expr, columns: range) -> None:
        """Zeros in these columns of a row of the copy."""
        if not columns:
            return
        if self.nhwc:
            with run(len(columns) * self.geometry.pixel) as float_:
                tir.buffer_store(self.copy, zero(), [row, columns.start, float_])
        else:
            with tir.serial(0, self.conv.in_channels) as k, run(len(columns)) as x:
                tir.buffer_store(self.copy, zero(), [k, row, columns.start + x])

    def input(self, y: Index, x: Index, k: Index) -> Expr:
        """A value of the band, by row and column of what a copy of it has."""
        if self.copy is not None:
            return self.copy[(y, x, k) if self.nhwc else (k, y, x)]
        row = self.first_row * self.conv.stride[0] + y
        return self.data[(self.image, row, x, k) if self.nhwc else (self.image, k, row, x)]

    # The products.

    def tile(self, line: Expr, x0: Index, first_vector: Index, number: Expr) -> None:
        """`columns` positions of a line from `x0` on; `number` counts the band's tiles."""
        plan, (kh, kw) = self.plan, self.conv.kernel
        acc = local(plan.columns, plan.vectors, self.lanes)
        with register_tile(plan.columns, plan.vectors, self.lanes) as (i, v, lane):
            tir.buffer_store(acc, self.bias[first_vector + v, lane], [i, v, lane])
        step = self.prefetch_step()
        steps = plan.block // step
        with tir.grid(self.conv.in_channels // plan.block, kh, kw, steps) as (block, ky, kx, k_outer):
            if plan.prefetch:
                done = ((block * kh + ky) * kw + kx) * steps + k_outer
                self.prefetch_next(first_vector, number, done, step)
            with tir.serial(0, step // plan.depth) as k_inner:
                k = block * plan.block + k_outer * step + k_inner * plan.depth
                self.multiply(acc, (line, x0), (ky, kx, k), first_vector)
        self.store(acc, line, x0, first_vector)

    def multiply(self, acc: Buffer, at: tuple[Index, Index], tap: tuple[Expr, Expr, Expr], first_vector: Index) -> None:
        """acc += image[columns, k .. k + depth] * weight[vectors, k .. k + depth, lanes] of one tap."""
        plan, (line, x0), (ky, kx, k) = self.plan, at, tap
        (sh, sw), (dh, dw) = self.geometry.stride, self.conv.dilation

        def value(i: Expr, step: Index) -> Expr:
            return self.input(line * sh + ky * dh, (x0 + i) * sw + kx * dw, k + step)

        data = loaded_ahead(plan.columns, plan.depth, value)
        with tir.unroll(0, plan.depth) as step, register_tile(plan.columns, plan.vectors, self.lanes) as (i, v, lane):
            weight = self.weight[first_vector + v, ky, kx, k + step, lane]
            tir.buffer_store(acc, acc[i, v, lane] + data(i, step) * weight, [i, v, lane])

    def store(self, acc: Buffer, line: Expr, x0: Index, first_vector: Index) -> None:
        with register_tile(self.plan.columns, self.plan.vectors, self.lanes) as (i, v, lane):
            channel = (first_vector + v) * self.lanes + lane
            with if_real(channel, self.conv.out_channels, self.lanes):
                place = [self.image, self.first_row + line, x0 + i, channel]
                residual = None if self.residual is None else self.residual[tuple(place)]
                tir.buffer_store(self.out, finished(acc[i, v, lane], self.conv, residual), place)

    @property
    def tiles_of_panel(self) -> int:
        """Tiles that use one panel of weights."""
        return self.lines * tiles.blocks(self.positions, self.plan.columns)

    def prefetch_step(self) -> int:
        """Channels between two of `prefetch_next`: a panel's tiles ask for the next one together, as nearly as can be.

        What is asked for beyond it drives out what is in use.
        """
        plan = self.plan
        if not plan.prefetch:
            return plan.depth
        steps = [plan.depth * n for n in tiles.divisors(plan.block // plan.depth) if plan.depth * n <= _LONGEST_STEP]
        return min(steps or [plan.depth], key=lambda step: (self.lines_of_step(step) / step, step))

    def lines_of_step(self, step: int) -> int:
        """Cache lines to ask for in so many channels, if all tiles of a panel do."""
        return tiles.blocks(self.plan.vectors * step, self.tiles_of_panel)

    def prefetch_next(self, first_vector: Index, number: Expr, done: Expr, step: int) -> None:
        """Ask for lines of the panel that follows this one in memory, in step `done` of tile `number`."""
        kh, kw = self.conv.kernel
        rows = kh * kw * self.conv.in_channels
        each = self.lines_of_step(step)
        first = (number * (rows // step) + done) * each
        with tir.unroll(0, each) as line:
            prefetch(self.weight, [first_vector + self.plan.vectors, 0, 0, first + line, 0])
