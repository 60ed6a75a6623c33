"""1x1 convolutions as a matrix product: data[M, K] x weight[N/lanes][K][lanes].

    for task in parallel(images x chunks of column tiles x bands of row tiles):
        scaled = weight of the chunk times the gate                 where the input channels are gated
        for row tiles of the band, column tiles of the chunk:       in either order
            acc[rows, vectors, lanes] = bias                        in registers
            for k: acc += data[row, k] * weight[vector, k, lane]        `depth` of k at a time
            out = epilogue(acc)

Rows are all output positions of the batch in one axis (of one image where there is a gate): the arrays are
contiguous. The last row or column tile is moved back until it fits; what it shares with its neighbour is computed
twice, with equal values. (An output must therefore never alias the residual: read again after the first write, it
would be wrong.)

Where data and weights are codes, `effgen.kernels.codes` multiplies and tells what the sums stand for.

A gate that scales the channels of the data scales the rows of the weight just as well, and those are far fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import (
    Ahead,
    Index,
    channel_of,
    fewer,
    function,
    if_real,
    loaded_ahead,
    local,
    prefetch,
    tile_start,
)
from effgen.kernels.codes import code_products, number_of, stored
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.math import finished
from effgen.kernels.packing import bias_shape, input_shapes
from effgen.machines.machine import Cpu


@dataclass(frozen=True)
class MatmulPlan:
    """Register tile (`rows` x `vectors`), chunks and bands that column and row tiles are shared out to, the order
    within a task, whether the next weights are asked for, whether cores share the tasks.

    `depth`: how many input channels of a row are loaded as one vector, for processors that multiply by a lane of it.
    """

    rows: int
    vectors: int
    chunks: int
    bands: int
    depth: int = 1
    columns_inside: bool = True
    prefetch: bool = False
    parallel: bool = True


def matmul_primfunc(workload: Conv2d, machine: Cpu, plan: MatmulPlan) -> PrimFunc:
    """The finished kernel `workload.name`; its arguments are those of `kernel_arguments`."""
    with function(workload, machine) as (builder, arguments):
        _Matmul(workload, machine, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


# Steps of the reduction for one look ahead where nothing else asks for shorter ones.
_STEP = 8
# Steps of the reduction between asking for a weight and using it, where every weight is used once.
_AHEAD = 64


class _Matmul:
    """The loop nest; what changes from task to task is set when one begins: `image`, the chunk's first vector."""

    image: Index
    chunk_start: Index

    def __init__(self, workload: Conv2d, machine: Cpu, plan: MatmulPlan, arguments: list[Buffer]) -> None:
        self.workload, self.plan = workload, plan
        self.vectors, self.lanes = bias_shape(workload, machine)
        self.images = workload.batch if workload.gated else 1
        self.rows = workload.rows // self.images
        self.row_tiles = tiles.blocks(self.rows, plan.rows)
        named = dict(zip(input_shapes(workload, machine), arguments, strict=False))
        self.data, self.weight, self.bias = arguments[0], named["weight"], named["bias"]
        self.gate, self.residual, self.grid = named.get("gate"), named.get("residual"), named.get("grid")
        self.residual_grid = named.get("residual_grid")
        self.out = arguments[-1]
        self.codes = code_products(workload, machine, named) if workload.multiplies_codes else None
        #: Of the reduction.
        self.steps = self.codes.steps if self.codes else workload.in_channels
        self.column_tiles = tiles.blocks(self.vectors, plan.vectors)
        step, count = self.depth_step(), self.row_tiles * self.column_tiles
        arrays = [array for name, array in named.items() if name.startswith("ahead")]
        self.ahead = Ahead(arrays, count * (self.steps // step))

    def write(self) -> None:
        column_tiles = self.column_tiles
        per_chunk, per_band = (
            tiles.blocks(column_tiles, self.plan.chunks),
            tiles.blocks(self.row_tiles, self.plan.bands),
        )
        chunks, bands = tiles.blocks(column_tiles, per_chunk), tiles.blocks(self.row_tiles, per_band)
        loop = tir.parallel if self.plan.parallel else tir.serial
        with loop(0, self.images * chunks * bands) as task:
            self.image = task // (chunks * bands)
            first_column, first_row = task // bands % chunks * per_chunk, task % bands * per_band
            self.chunk_start = self.vector_start(first_column)
            panel = self.scaled_panel(per_chunk) if self.gate is not None else None
            for_rows = tir.serial(0, fewer(first_row, per_band, self.row_tiles))
            for_columns = tir.serial(0, fewer(first_column, per_chunk, column_tiles))
            with self.nested(for_rows, for_columns) as (row_tile, column_tile):
                self.tile(first_row + row_tile, first_column + column_tile, panel)

    def vector_start(self, column_tile: Index) -> Index:
        return tile_start(column_tile, self.vectors, self.plan.vectors)

    @contextmanager
    def nested(self, rows: tir.ForFrame, columns: tir.ForFrame) -> Iterator[tuple[Expr, Expr]]:
        """The two loops of a task in the plan's order; gives (row tile, column tile)."""
        if self.plan.columns_inside:
            with rows as row, columns as column:
                yield row, column
        else:
            with columns as column, rows as row:
                yield row, column

    def scaled_panel(self, column_tiles: int) -> Buffer:
        """The chunk's weights times the gate of this image."""
        assert self.gate is not None
        depth, vectors = self.workload.in_channels, min(column_tiles * self.plan.vectors, self.vectors)
        panel: Buffer = tir.alloc_buffer((vectors, depth, self.lanes), "float32", scope="global", layout=None)
        count = fewer(self.chunk_start, vectors, self.vectors)
        with tir.serial(0, count) as v, tir.serial(0, depth) as k, tir.vectorized(0, self.lanes) as lane:
            value = self.weight[self.chunk_start + v, 0, 0, k, lane] * self.gate[self.image, 0, 0, k]
            tir.buffer_store(panel, value, [v, k, lane])
        return panel

    def tile(self, row_tile: Expr, column_tile: Expr, panel: Buffer | None) -> None:
        first_vector = self.vector_start(column_tile)
        first_row = self.image * self.rows + tile_start(row_tile, self.rows, self.plan.rows)
        acc = self.begun(first_vector)
        if self.workload.activation_last:
            self.prefetch_ends(first_row, first_vector)
        codes_at = self.codes_at(first_row)
        step = self.depth_step()
        with tir.serial(0, self.steps // step) as k_outer:
            tile = row_tile * self.column_tiles + column_tile
            self.ahead.step(tile * (self.steps // step) + k_outer)
            if self.plan.prefetch:
                self.prefetch_next(row_tile, first_vector, k_outer, step)
            with tir.serial(0, step // self.plan.depth) as k_inner:
                k = k_outer * step + k_inner * self.plan.depth
                if self.codes and codes_at:
                    self.codes.multiply(acc, codes_at, first_vector, k)
                else:
                    self.multiply(acc, first_row, first_vector, k, panel)
        with self.over_tile() as (i, v, lane):
            channel = channel_of(first_vector + v, lane, self.workload.out_channels, self.lanes)
            with if_real(channel, self.workload.out_channels, self.lanes):
                residual = None if self.residual is None else self.residual[0, 0, first_row + i, channel]
                if residual is not None and self.residual_grid is not None:
                    residual = number_of(residual, self.residual_grid)
                total = self.codes.result(acc, (i, v, lane), first_vector) if self.codes else acc[i, v, lane]
                value = stored(finished(total, self.workload, residual), self.workload, self.grid)
                tir.buffer_store(self.out, value, [0, 0, first_row + i, channel])

    def begun(self, first_vector: Index) -> Buffer:
        """The sums of a tile, which the bias begins; of codes it is added at the end."""
        if self.codes:
            return self.codes.begun(self.plan.rows, self.plan.vectors, first_vector)
        acc = local(self.plan.rows, self.plan.vectors, self.lanes)
        with self.over_tile() as (i, v, lane):
            tir.buffer_store(acc, self.bias[first_vector + v, lane], [i, v, lane])
        return acc

    def codes_at(self, first_row: Index) -> Callable[[Index, Index], Expr] | None:
        if self.codes is None:
            return None
        return self.codes.rows_of(self.data, lambda i, k: (0, 0, first_row + i, k), self.plan.rows)

    def multiply(self, acc: Buffer, first_row: Index, first_vector: Index, k: Expr, panel: Buffer | None) -> None:
        """acc += data[rows, k .. k + depth] * weight[vectors, k .. k + depth, lanes]."""
        depth = self.plan.depth
        data = loaded_ahead(self.plan.rows, depth, lambda i, step: self.data[0, 0, first_row + i, k + step])
        with tir.unroll(0, depth) as step, self.over_tile() as (i, v, lane):
            if panel is not None:
                weight = panel[first_vector - self.chunk_start + v, k + step, lane]
            else:
                weight = self.weight[first_vector + v, 0, 0, k + step, lane]
            tir.buffer_store(acc, acc[i, v, lane] + data(i, step) * weight, [i, v, lane])

    def depth_step(self) -> int:
        """Steps of the reduction for one of `prefetch_next`: the row tiles of a panel ask for the next one together."""
        channels, depth = self.steps, self.plan.depth
        if not self.plan.prefetch:
            return tiles.largest_step(channels, _STEP, depth) if self.workload.ahead else depth
        return tiles.largest_step(channels, self.row_tiles // self.plan.vectors, depth)

    def prefetch_next(self, row_tile: Expr, first_vector: Index, k_outer: Expr, step: int) -> None:
        """Ask for lines of the panel that follows this one in memory.

        A weight is used by few rows where images are small: waiting for it costs as much as using it.
        """
        depth, vectors = self.steps, self.plan.vectors
        if self.row_tiles == 1:
            with tir.unroll(0, vectors) as v:
                prefetch(self.weight, [first_vector + v, 0, 0, k_outer + _AHEAD, 0])
            return
        # Line number `row_tile * lines + ...` of the next panel.
        each = tiles.blocks(vectors * depth, self.row_tiles * (depth // step))
        first = (row_tile * (depth // step) + k_outer) * each
        with tir.unroll(0, each) as line:
            prefetch(self.weight, [first_vector + vectors, 0, 0, first + line, 0])

    def prefetch_ends(self, first_row: Index, first_vector: Index) -> None:
        """Ask for what the tile's end adds and writes: images that no near cache holds where ResNet's blocks end."""
        assert self.residual is not None
        with tir.unroll(0, self.plan.rows) as i, tir.unroll(0, self.plan.vectors) as v:
            place = [0, 0, first_row + i, (first_vector + v) * self.lanes]
            prefetch(self.residual, place)
            prefetch(self.out, place, write=True)

    @contextmanager
    def over_tile(self) -> Iterator[tuple[Expr, Expr, Expr]]:
        with tir.unroll(0, self.plan.rows) as i, tir.unroll(0, self.plan.vectors) as v:
            with tir.vectorized(0, self.lanes) as lane:
                yield i, v, lane
