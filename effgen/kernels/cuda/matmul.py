"""1x1 convolutions and dense layers on a GPU's float32 units: data[M, K] x weight[K][N].

    block (tile of rows x tile of columns), threads (rows x columns x slices of the reduction):
        fetch the first tiles of data and weight into registers
        for tiles of the reduction:
            put what was fetched into shared memory (data transposed, times the gate); fetch the next tiles
            for k of the slice: acc[rows, columns] += data[k, rows] * weight[k, columns]
        add the slices up through shared memory
        out = activation(acc + bias) + residual

Slices of the reduction give threads to layers of few rows, which would not fill a GPU otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import Index, function
from effgen.kernels.cuda.builder import (
    VECTOR,
    as_float,
    as_type,
    below,
    for_share,
    guarded,
    launch,
    load_vector,
    registers,
    shared,
    synchronise,
)
from effgen.kernels.cuda.math import finished
from effgen.kernels.cuda.product import Product, load_or_zero, place_in_tile
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.machines.machine import Gpu

#: Floats between the rows of transposed data: stores of a warp fall into different banks.
PAD = 4


@dataclass(frozen=True)
class TilePlan:
    """A block's tile is (threads_m * rows) x (threads_n * columns), `depth` of the reduction at a time, which `slices`
    groups of threads share. `columns` and `depth` are multiples of VECTOR, `depth` one of `slices`."""

    rows: int
    columns: int
    threads_m: int
    threads_n: int
    depth: int
    slices: int = 1

    @property
    def tile_m(self) -> int:
        """Rows of a block's tile."""
        return self.rows * self.threads_m

    @property
    def tile_n(self) -> int:
        """Columns of a block's tile."""
        return self.columns * self.threads_n

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.threads_m * self.threads_n * self.slices

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        partial_sums = (self.slices - 1) * self.tile_m * self.tile_n
        return 4 * (self.depth * (self.tile_m + PAD + self.tile_n) + partial_sums)


def matmul_primfunc(workload: Conv2d, machine: Gpu, plan: TilePlan) -> PrimFunc:
    """The finished kernel `workload.name`; its arguments are those of `kernel_arguments`."""
    with function(workload, machine) as (builder, arguments):
        _Matmul(workload, machine, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Matmul(Product):
    """The kernel's body; where a thread stands is set when the launch begins."""

    thread_m: Expr
    thread_n: Expr
    slice: Expr

    def __init__(self, workload: Conv2d, machine: Gpu, plan: TilePlan, arguments: list[Buffer]) -> None:
        super().__init__(workload, machine, arguments, plan.tile_m, plan.tile_n, plan.depth)
        self.plan = plan

    def write(self) -> None:
        plan = self.plan
        with launch(self.blocks, plan.threads) as (block, thread):
            self.stand(block)
            self.thread_n = thread % plan.threads_n
            self.thread_m = thread // plan.threads_n % plan.threads_m
            self.slice = thread // (plan.threads_n * plan.threads_m)
            data = shared(plan.depth, plan.tile_m + PAD)
            weight = shared(plan.depth, plan.tile_n)
            acc = registers(plan.rows, plan.columns)
            self.clear(acc)
            self.reduce(thread, data, weight, acc)
            self.finish(acc)

    def clear(self, acc: Buffer) -> None:
        with tir.unroll(0, self.plan.rows) as i, tir.unroll(0, self.plan.columns) as j:
            tir.buffer_store(acc, tirx.const(0.0, "float32"), [i, j])

    def reduce(self, thread: Expr, data: Buffer, weight: Buffer, acc: Buffer) -> None:
        plan, count = self.plan, self.depth_tiles
        data_pieces, weight_pieces = plan.tile_m * plan.depth // VECTOR, plan.depth * plan.tile_n // VECTOR
        fetched_data = registers(tiles.blocks(data_pieces, plan.threads), VECTOR)
        fetched_weight = registers(tiles.blocks(weight_pieces, plan.threads), VECTOR)
        self.fetch_data(0, thread, fetched_data, data_pieces)
        self.fetch_weight(0, thread, fetched_weight, weight_pieces)
        with tir.serial(0, count) as k_tile:
            self.put_data(thread, fetched_data, data, data_pieces)
            self.put_weight(thread, fetched_weight, weight, weight_pieces)
            synchronise()
            with guarded([k_tile + 1 < count]):
                self.fetch_data((k_tile + 1) * plan.depth, thread, fetched_data, data_pieces)
                self.fetch_weight((k_tile + 1) * plan.depth, thread, fetched_weight, weight_pieces)
            self.multiply(data, weight, acc)
            synchronise()

    def fetch_data(self, first_k: Index, thread: Expr, into: Buffer, pieces: int) -> None:
        """Vectors along k of the block's rows."""
        with for_share(pieces, thread, self.plan.threads) as (turn, piece):
            tile_row, tile_k = place_in_tile(piece, self.plan.depth, VECTOR)
            row, k = self.data_row(tile_row), first_k + tile_k

            def value(lane: Expr) -> Expr:
                found = as_float(self.data[0, 0, row, k + lane])
                return found if self.gate is None else found * self.gate[self.image, 0, 0, k + lane]

            load_or_zero(into, turn, value, below(k, self.depth, self.covered_depth), VECTOR, "float32")

    def fetch_weight(self, first_k: Index, thread: Expr, into: Buffer, pieces: int) -> None:
        with for_share(pieces, thread, self.plan.threads) as (turn, piece):
            tile_k, tile_column = place_in_tile(piece, self.plan.tile_n, VECTOR)
            k, column = first_k + tile_k, self.first_column + tile_column
            real = [*below(k, self.depth, self.covered_depth), *below(column, self.width, self.covered_width)]
            weight = self.weight
            load_or_zero(into, turn, lambda lane: as_float(weight[0, 0, 0, k, column + lane]), real, VECTOR, "float32")

    def put_data(self, thread: Expr, fetched: Buffer, data: Buffer, pieces: int) -> None:
        per_row = self.plan.depth // VECTOR
        with for_share(pieces, thread, self.plan.threads) as (turn, piece):
            with tir.unroll(0, VECTOR) as lane:
                place = [piece % per_row * VECTOR + lane, piece // per_row]
                tir.buffer_store(data, fetched[turn, lane], place)

    def put_weight(self, thread: Expr, fetched: Buffer, weight: Buffer, pieces: int) -> None:
        per_row = self.plan.tile_n // VECTOR
        with for_share(pieces, thread, self.plan.threads) as (turn, piece):
            load_vector(weight, [piece // per_row, piece % per_row * VECTOR], lambda lane: fetched[turn, lane])

    def multiply(self, data: Buffer, weight: Buffer, acc: Buffer) -> None:
        """The slice's share of one tile of the reduction."""
        plan = self.plan
        rows, columns = registers(plan.rows), registers(plan.columns)
        with tir.unroll(0, plan.depth // plan.slices) as step:
            k = step * plan.slices + self.slice
            if plan.rows % VECTOR == 0:
                with tir.unroll(0, plan.rows // VECTOR) as i:
                    load_vector(rows, [i * VECTOR], lambda lane: data[k, self.thread_m * plan.rows + i * VECTOR + lane])
            else:
                with tir.unroll(0, plan.rows) as i:
                    tir.buffer_store(rows, data[k, self.thread_m * plan.rows + i], [i])
            with tir.unroll(0, plan.columns // VECTOR) as j:
                # Vectors of neighbouring threads lie side by side: no bank conflicts.
                column = (j * plan.threads_n + self.thread_n) * VECTOR
                load_vector(columns, [j * VECTOR], lambda lane: weight[k, column + lane])
            with tir.unroll(0, plan.rows) as i, tir.unroll(0, plan.columns) as j:
                tir.buffer_store(acc, acc[i, j] + rows[i] * columns[j], [i, j])

    def finish(self, acc: Buffer) -> None:
        if self.plan.slices == 1:
            self.store(acc)
            return
        plan = self.plan
        sums = shared(plan.slices - 1, plan.rows * plan.columns, plan.threads_m * plan.threads_n)
        lane = self.thread_m * plan.threads_n + self.thread_n
        with tir.If(self.slice > 0), tir.Then():
            with tir.unroll(0, plan.rows) as i, tir.unroll(0, plan.columns) as j:
                tir.buffer_store(sums, acc[i, j], [self.slice - 1, i * plan.columns + j, lane])
        synchronise()
        with tir.If(self.slice.equal(0)), tir.Then():
            with tir.unroll(0, plan.rows) as i, tir.unroll(0, plan.columns) as j, tir.unroll(0, plan.slices - 1) as s:
                tir.buffer_store(acc, acc[i, j] + sums[s, i * plan.columns + j, lane], [i, j])
            self.store(acc)

    def store(self, acc: Buffer) -> None:
        plan, channels = self.plan, self.workload.out_channels
        with tir.unroll(0, plan.rows) as i, tir.unroll(0, plan.columns // VECTOR) as j:
            row = self.first_row + self.thread_m * plan.rows + i
            column = self.first_column + (j * plan.threads_n + self.thread_n) * VECTOR
            real = [*below(row, self.rows, self.covered_rows), *below(column, channels, self.covered_width)]
            with guarded(real):
                self.store_vector(acc, i, j, row + self.image * self.rows, column)

    def store_vector(self, acc: Buffer, i: Expr, j: Expr, row: Expr, column: Expr) -> None:
        """Four outputs; singly, and only the real ones, where the channels are no multiple of four."""
        whole = self.workload.out_channels % VECTOR == 0
        with tir.vectorized(0, VECTOR) if whole else tir.unroll(0, VECTOR) as lane:
            real = [] if whole else [column + lane < self.workload.out_channels]
            with guarded(real):
                value = acc[i, j * VECTOR + lane] + self.bias[0, column + lane]
                residual = None if self.residual is None else as_float(self.residual[0, 0, row, column + lane])
                value = finished(value, self.workload, residual)
                tir.buffer_store(self.out, as_type(value, self.workload.dtype), [0, 0, row, column + lane])
