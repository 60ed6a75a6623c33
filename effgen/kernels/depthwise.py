"""Depthwise convolutions by bands of rows, with the expansion before them and the row sums after them where wanted.

    for task in parallel(batch x bands x groups of channel vectors):
        ring[vectors][slots][columns][lanes]                       a few padded rows, in the nearest cache
        for the rows of the band:
            make the padded rows that the next output row needs    a copy of the input, its expansion, or the stem's
            acc[columns, lanes] = bias                             in registers
            for ky, kx: acc += ring[..] * weight[ky, kx]           unrolled, the rows of taps where the plan says so
            out = activation(acc);  sum += out

A row is made once in a band and stays in the ring for as many output rows as read it: an expanded image, six times
its input, is never in memory. Neighbouring bands make the rows that they share twice.

The loops are written out here, not scheduled: a ring is no transformation of a plain definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import (
    Ahead,
    Index,
    channel_of,
    function,
    if_real,
    loaded_ahead,
    local,
    opaque,
    pairwise,
    prefetch,
    register_tile,
    tile_start,
    zero,
)
from effgen.kernels.codes import code_products, stored
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise
from effgen.kernels.math import activate, finished
from effgen.kernels.packing import bias_shape, input_shapes
from effgen.kernels.stem import StemRows
from effgen.kernels.workload import Activation, is_exponential
from effgen.machines.machine import Cpu

# Steps of the expansion's reduction for one look ahead where nothing else asks for shorter ones.
_STEP = 8
# Columns of a row that are activated at once where that is done apart.
_ACTIVATED = 2


@dataclass(frozen=True)
class BandPlan:
    """Sizes of the loops: output rows in a band; channel vectors in a group; output columns in a register tile; the
    expansion's register tile (columns x vectors, at most the group's), how many of its input channels
    are loaded as one vector (`effgen.kernels.builder.loaded_ahead`), and whether it asks for the next group's weights
    meanwhile; whether all taps are unrolled, or those of a row only; whether the ring lives on the stack; whether
    activations are computed `apart`, of whole rows at a time: those of a register tile wait for one another; whether
    the lines of the row that is written next are asked for (`write_ahead`).

    (An aligned array there makes LLVM align what it spills: an unaligned spilled vector straddles two cache lines.)
    """

    rows: int
    vectors: int
    columns: int
    expand_columns: int = 1
    expand_vectors: int = 1
    expand_depth: int = 1
    prefetch: bool = False
    unroll_taps: bool = True
    on_stack: bool = True
    apart: bool = False
    write_ahead: bool = False


def ring_slots(depthwise: Conv2d) -> int:
    """Padded rows that must be there at once: a window's, rounded up to whole steps."""
    return tiles.blocks(depthwise.kernel[0], depthwise.stride[0]) * depthwise.stride[0]


def ring_bytes(depthwise: Conv2d, vectors: int, width: int) -> int:
    """Bytes of a ring of so many channel vectors."""
    return ring_slots(depthwise) * vectors * depthwise.padded_row_bytes(width)


def is_apart(activation: Activation, apart: bool) -> bool:
    """Whether a plan that says `apart` computes this activation of whole rows: only those that take long."""
    return apart and is_exponential(activation)


def depthwise_primfunc(workload: Conv2d | ExpandDepthwise, machine: Cpu, plan: BandPlan) -> PrimFunc:
    """The finished kernel `workload.name`; its arguments are those of `kernel_arguments`."""
    with function(workload, machine) as (builder, arguments):
        _Bands(workload, machine, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


def mixed_depthwise_primfunc(workload: MixedDepthwise, machine: Cpu, plans: Sequence[BandPlan]) -> PrimFunc:
    """The finished kernel `workload.name`: one part after the other, a plan each."""
    with function(workload, machine) as (builder, arguments):
        outputs = arguments[1 + 2 * len(plans) :]
        for index, (part, plan) in enumerate(zip(workload.parts, plans, strict=True)):
            own = [arguments[0], *arguments[1 + 2 * index : 3 + 2 * index], *outputs]
            _Bands(part, machine, plan, own, workload.firsts[index]).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Bands:
    """The loop nest; what changes from task to task is set when a task begins. `first`: where the channels of input and
    output begin, which may have more than the convolution."""

    image: Index
    first_vector: Index
    ring: Buffer
    line: Buffer

    def __init__(
        self,
        workload: Conv2d | ExpandDepthwise,
        machine: Cpu,
        plan: BandPlan,
        arguments: list[Buffer],
        first: int = 0,
    ) -> None:
        self.plan, self.first = plan, first
        *before, self.conv = workload.convolutions
        self.expand = before[0] if before else None
        self.blocks, self.lanes = bias_shape(self.conv, machine)
        named = dict(zip(input_shapes(workload, machine), arguments, strict=False))
        self.data, self.residual, self.grid = arguments[0], named.get("residual"), named.get("grid")
        self.out = arguments[-2] if self.conv.row_sums else arguments[-1]
        self.sums = arguments[-1] if self.conv.row_sums else None
        self.looked_ahead = [array for name, array in named.items() if "ahead" in name]
        self.codes = None
        if self.expand:
            self.expand_weight, self.expand_bias = named["expand_weight"], named["expand_bias"]
            if self.expand.multiplies_codes:
                self.codes = code_products(self.expand, machine, named, "expand_")
            #: Of the expansion's reduction.
            self.steps = self.codes.steps if self.codes else self.expand.in_channels
        prefix = "depthwise_" if self.expand else ""
        self.weight, self.bias = named[f"{prefix}weight"], named[f"{prefix}bias"]
        self.slots = ring_slots(self.conv)
        self.padded_columns = (self.conv.out_width - 1) * self.conv.stride[1] + self.conv.kernel[1]
        # Columns that windows read, before those of the image and of them; a stride may leave the last ones out, and
        # all of them.
        self.left = left = min(self.conv.padding[1], self.padded_columns)
        self.inner_columns = min(self.conv.width, self.padded_columns - left)
        self.rows_apart = self.expand is not None and is_apart(self.expand.activation, plan.apart)
        self.outputs_apart = is_apart(self.conv.activation, plan.apart)
        self.stem = None
        if self.expand and self.expand.is_stem:
            tile = (plan.vectors, plan.expand_columns, plan.expand_vectors)
            columns = range(left, left + self.inner_columns)
            parameters = (self.data, self.expand_weight, self.expand_bias)
            self.stem = StemRows(self.expand, parameters, tile, columns, self.tile_activation(self.expand))

    def write(self) -> None:
        bands = tiles.blocks(self.conv.out_height, self.plan.rows)
        groups = self.blocks // self.plan.vectors
        with tir.parallel(0, self.conv.batch * bands * groups) as task:
            self.image = task // (bands * groups)
            self.first_vector = task % groups * self.plan.vectors
            first_row = tile_start(task // groups % bands, self.conv.out_height, self.plan.rows)
            shape = (self.plan.vectors, self.slots, self.padded_columns, self.lanes)
            scope = "local" if self.plan.on_stack else "global"
            self.ring = tir.alloc_buffer(shape, "float32", scope=scope, layout=None)
            if self.outputs_apart:
                line = (self.conv.out_width, self.lanes)
                self.line = tir.alloc_buffer(line, "float32", scope=scope, layout=None)
            self.clear_borders()
            if self.stem:
                self.stem.begin(scope)
            self.band(first_row)

    def clear_borders(self) -> None:
        """Zero the columns left and right of the image; nothing writes there later."""
        left = self.left
        right = self.padded_columns - left - self.inner_columns
        with tir.grid(self.plan.vectors, self.slots) as (vector, slot):
            for start, columns in ((0, left), (left + self.inner_columns, right)):
                if columns:
                    self.clear(vector, slot, start, columns)

    def clear(self, vector: Expr, slot: Expr, start: int, columns: int) -> None:
        with tir.serial(0, columns) as x, tir.vectorized(0, self.lanes) as lane:
            tir.buffer_store(self.ring, zero(), [vector, slot, start + x, lane])

    def band(self, first_row: Expr) -> None:
        """Steps of one output row: as many new padded rows as the stride, then the row, once a window is full."""
        stride, (kernel, _) = self.conv.stride[0], self.conv.kernel
        ahead = self.slots // stride - 1
        made, steps = (self.plan.rows - 1) * stride + kernel, self.plan.rows + ahead
        # Rows of one step alone are counted: under a condition, TVM would size the ring by a loop's variable.
        new = made if steps == 1 else stride
        with tir.serial(0, steps) as step:
            with tir.serial(0, new) as j:
                if made == steps * new:
                    self.make_row(first_row * stride + step * stride + j)
                else:
                    with tir.If(step * stride + j < made), tir.Then():
                        self.make_row(first_row * stride + step * stride + j)
            if ahead:
                with tir.If(step >= ahead), tir.Then():
                    self.output_row(first_row + step - ahead)
            else:
                self.output_row(first_row + step)

    def make_row(self, padded_row: Expr) -> None:
        if not self.inner_columns:
            return
        top, _, bottom, _ = self.conv.padding
        row, slot = padded_row - top, padded_row % self.slots
        if not top and not bottom:
            self.fill_row(row, slot)
            return
        with tir.If((row >= 0) & (row < self.conv.height)):
            with tir.Then():
                self.fill_row(row, slot)
            with tir.Else(), tir.serial(0, self.plan.vectors) as vector:
                self.clear(vector, slot, self.left, self.inner_columns)

    def fill_row(self, row: Expr, slot: Expr) -> None:
        if self.stem:
            self.stem.write_row(self.image, row, self.first_vector, self.ring, slot)
        elif self.expand:
            self.expand_row(self.expand, row, slot)
        else:
            self.copy_row(row, slot)
        if self.expand and self.rows_apart:
            with tir.serial(0, self.plan.vectors) as vector:
                for x0, columns in _at_once(self.inner_columns):
                    self.activate_columns(self.expand, [vector, slot], self.left + x0, columns)

    def tile_activation(self, expand: Conv2d) -> Activation:
        """What is applied to a register tile of the expansion."""
        return "none" if self.rows_apart else expand.activation

    def activate_columns(self, expand: Conv2d, row: list[Expr], x0: Index, columns: int) -> None:
        with tir.unroll(0, columns) as i, tir.vectorized(0, self.lanes) as lane:
            place = [*row, x0 + i, lane]
            tir.buffer_store(self.ring, activate(self.ring[tuple(place)], expand.activation), place)

    def copy_row(self, row: Expr, slot: Expr) -> None:
        with tir.serial(0, self.inner_columns) as x, tir.serial(0, self.plan.vectors) as vector:
            with tir.vectorized(0, self.lanes) as lane:
                channel = self.real_channel(self.first_vector + vector, lane)
                value = self.data[self.image, row, x, self.first + channel]
                tir.buffer_store(self.ring, value, [vector, slot, self.left + x, lane])

    def real_channel(self, block: Index, lane: Expr) -> Expr:
        """The channel to read; one added to fill a vector is never stored and may hold another one's value."""
        channel = channel_of(block, lane, self.conv.in_channels, self.lanes)
        return channel if self.conv.in_channels >= self.lanes else tirx.min(channel, self.conv.in_channels - 1)

    def expand_row(self, expand: Conv2d, row: Expr, slot: Expr) -> None:
        """One row of the expanded image, a register tile at a time, activated, into the ring."""
        columns, vectors = self.plan.expand_columns, self.plan.expand_vectors
        column_tiles = tiles.blocks(self.inner_columns, columns)
        column_groups = tiles.blocks(self.plan.vectors, vectors)
        register_tiles = self.conv.height * column_tiles * column_groups
        step, lines = self.prefetch_share(register_tiles)
        steps = register_tiles * (self.steps // step)
        ahead = Ahead(self.looked_ahead, steps * (self.blocks // self.plan.vectors))
        with tir.serial(0, column_groups) as outer:
            with tir.serial(0, column_tiles) as index:
                x0 = tile_start(index, self.inner_columns, columns)
                first = tile_start(outer, self.plan.vectors, vectors)
                first_vector = self.first_vector + first
                acc, codes_at = self.begun(first_vector), self.codes_at((row, x0))
                # LLVM would unroll all steps, fetch the weights of all of them before the first, and spill.
                outer_steps = self.steps // step
                with tir.serial(0, opaque(outer_steps) if step > self.plan.expand_depth else outer_steps) as k_outer:
                    tile = (row * column_groups + outer) * column_tiles + index
                    number = tile * outer_steps + k_outer
                    ahead.step(self.first_vector // self.plan.vectors * steps + number)
                    if self.plan.prefetch:
                        self.prefetch_next(number * lines, lines)
                    with tir.serial(0, step // self.plan.expand_depth) as k_inner:
                        k = k_outer * step + k_inner * self.plan.expand_depth
                        if self.codes and codes_at:
                            self.codes.multiply(acc, codes_at, first_vector, k)
                        else:
                            self.multiply(acc, (row, x0), first_vector, k)
                with register_tile(columns, vectors, self.lanes) as (i, v, lane):
                    total = self.codes.result(acc, (i, v, lane), first_vector) if self.codes else acc[i, v, lane]
                    value = activate(total, self.tile_activation(expand))
                    tir.buffer_store(self.ring, value, [first + v, slot, self.left + x0 + i, lane])

    def begun(self, first_vector: Index) -> Buffer:
        """The sums of a tile of the expansion, which the bias begins; of codes it is added at the end."""
        columns, vectors = self.plan.expand_columns, self.plan.expand_vectors
        if self.codes:
            return self.codes.begun(columns, vectors, first_vector)
        acc = local(columns, vectors, self.lanes)
        with register_tile(columns, vectors, self.lanes) as (i, v, lane):
            tir.buffer_store(acc, self.expand_bias[first_vector + v, lane], [i, v, lane])
        return acc

    def codes_at(self, at: tuple[Index, Index]) -> Callable[[Index, Index], Expr] | None:
        """What a tile multiplies where that is codes; `at`: row, column."""
        if self.codes is None:
            return None
        row, x0 = at
        return self.codes.rows_of(self.data, lambda i, k: (self.image, row, x0 + i, k), self.plan.expand_columns)

    def multiply(self, acc: Buffer, at: tuple[Index, Index], first_vector: Index, k: Expr) -> None:
        """acc += data[columns, k .. k + depth] * expand_weight[vectors, k .. k + depth, lanes]; `at`: row, column."""
        (row, x0), depth = at, self.plan.expand_depth
        columns, vectors = self.plan.expand_columns, self.plan.expand_vectors
        data = loaded_ahead(columns, depth, lambda i, step: self.data[self.image, row, x0 + i, k + step])
        with tir.unroll(0, depth) as step, register_tile(columns, vectors, self.lanes) as (i, v, lane):
            weight = self.expand_weight[first_vector + v, 0, 0, k + step, lane]
            tir.buffer_store(acc, acc[i, v, lane] + data(i, step) * weight, [i, v, lane])

    def prefetch_share(self, register_tiles: int) -> tuple[int, int]:
        """Steps of the reduction between prefetches, and cache lines of each: the register tiles of a whole image ask
        for all weights of the next group together."""
        depth = self.plan.expand_depth
        if not self.plan.prefetch:
            return (tiles.largest_step(self.steps, _STEP, depth) if self.looked_ahead else depth), 0
        # LLVM unrolls two steps of loaded vectors into one, asks for the loads of both first, and spills.
        share = 1 if depth > 1 else max(1, register_tiles // self.plan.vectors)
        step = tiles.largest_step(self.steps, share, depth)
        lines = tiles.blocks(self.plan.vectors * self.steps, register_tiles * (self.steps // step))
        return step, lines

    def prefetch_next(self, first: Expr, lines: int) -> None:
        """Ask for `lines` cache lines of the next group's weights, which follow this group's in memory."""
        with tir.unroll(0, lines) as line:
            prefetch(self.expand_weight, [self.first_vector + self.plan.vectors, 0, 0, first + line, 0])

    def output_row(self, row: Expr) -> None:
        whole, rest = divmod(self.conv.out_width, self.plan.columns)
        with tir.serial(0, self.plan.vectors) as vector:
            total = local(1, self.lanes)
            if self.sums is not None:
                with tir.vectorized(0, self.lanes) as lane:
                    tir.buffer_store(total, zero(), [0, lane])
            with tir.serial(0, whole) as index:
                self.output_tile(row, vector, index * self.plan.columns, total, new=self.plan.columns)
            if rest:
                self.output_tile(row, vector, self.conv.out_width - self.plan.columns, total, new=rest)
            if self.outputs_apart:
                for x0, columns in _at_once(self.conv.out_width):
                    self.finish((row, vector, x0), columns, self.line_from(x0), total, columns)
            if self.sums is not None:
                self.store_sum(row, vector, total)

    def output_tile(self, row: Expr, vector: Expr, x0: Index, total: Buffer, new: int) -> None:
        """`columns` outputs from `x0` on; the last `new` of them are counted in the row's sum."""
        columns, block = self.plan.columns, self.first_vector + vector
        (kh, kw), (sh, sw) = self.conv.kernel, self.conv.stride
        acc = local(columns, self.lanes)
        with tir.unroll(0, columns) as i, tir.vectorized(0, self.lanes) as lane:
            tir.buffer_store(acc, self.bias[block, lane], [i, lane])
        if self.plan.write_ahead:
            with tir.unroll(0, columns) as i:
                # What is written next is far away by now: the image is larger than the near caches.
                prefetch(self.out, [self.image, row + 1, x0 + i, self.first + block * self.lanes], write=True)
        rows_of_taps = tir.unroll(0, kh) if self.plan.unroll_taps else tir.serial(0, opaque(kh))
        with rows_of_taps as ky, tir.unroll(0, kw) as kx, tir.unroll(0, columns) as i:
            with tir.vectorized(0, self.lanes) as lane:
                value = self.ring[vector, (row * sh + ky) % self.slots, (x0 + i) * sw + kx, lane]
                product = value * self.weight[block, ky, kx, lane]
                tir.buffer_store(acc, acc[i, lane] + product, [i, lane])
        if self.outputs_apart:
            with tir.unroll(0, columns) as i, tir.vectorized(0, self.lanes) as lane:
                tir.buffer_store(self.line, acc[i, lane], [x0 + i, lane])
        else:
            self.finish((row, vector, x0), columns, lambda i, lane: acc[i, lane], total, new)

    def finish(
        self,
        at: tuple[Expr, Expr, Index],
        columns: int,
        sum_of: Callable[[Expr, Expr], Expr],
        total: Buffer,
        new: int,
    ) -> None:
        """Activate and store `columns` outputs; `at`: row, vector, first column; `sum_of` a column and lane."""
        (row, vector, x0), out = at, local(columns, self.lanes)
        block = self.first_vector + vector
        with tir.unroll(0, columns) as i, tir.vectorized(0, self.lanes) as lane:
            residual = None
            if self.residual is not None:
                residual = self.residual[self.image, row, x0 + i, self.real_channel(block, lane)]
            tir.buffer_store(out, finished(sum_of(i, lane), self.conv, residual), [i, lane])
        with tir.unroll(0, columns) as i, tir.vectorized(0, self.lanes) as lane:
            channel = channel_of(block, lane, self.conv.out_channels, self.lanes)
            with if_real(channel, self.conv.out_channels, self.lanes):
                value = stored(out[i, lane], self.conv, self.grid)
                tir.buffer_store(self.out, value, [self.image, row, x0 + i, self.first + channel])
        if self.sums is not None:
            with tir.vectorized(0, self.lanes) as lane:
                counted = [out[i, lane] for i in range(columns - new, columns)]
                tir.buffer_store(total, total[0, lane] + pairwise(counted), [0, lane])

    def line_from(self, x0: Index) -> Callable[[Expr, Expr], Expr]:
        return lambda i, lane: self.line[x0 + i, lane]

    def store_sum(self, row: Expr, vector: Expr, total: Buffer) -> None:
        with tir.vectorized(0, self.lanes) as lane:
            channel = channel_of(self.first_vector + vector, lane, self.conv.out_channels, self.lanes)
            with if_real(channel, self.conv.out_channels, self.lanes):
                tir.buffer_store(self.sums, total[0, lane], [self.image, row, self.first + channel])


def _at_once(columns: int) -> Iterator[tuple[Index, int]]:
    """Loops over the columns of a row, a few at a time, then over what is left: the first column, and how many."""
    whole, rest = divmod(columns, _ACTIVATED)
    if whole:
        with tir.serial(0, whole) as index:
            yield index * _ACTIVATED, _ACTIVATED
    if rest:
        yield whole * _ACTIVATED, rest
