"""1x1 convolutions and dense layers on a GPU's tensor cores: float16 data[M, K] x weight[K][N], float32 sums.

block (tile of rows x tile of columns), warps (rows x columns, each some fragments of 16 x 16):
    fetch the first tiles of data and weight into registers
    for tiles of the reduction:
        put what was fetched into shared memory (data times the gate); fetch the next tiles
        for fragments of the reduction: acc += data fragment * weight fragment
    sums through shared memory: out = activation(acc + bias) + residual, vectors of eight channels
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
    WARP,
    as_float,
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

#: Rows, columns and depth of a fragment, the shape that `nvcuda::wmma` has on every GPU from sm_70 on.
FRAGMENT = 16
#: float16 values that one thread loads at once (16 bytes), and that pad the rows in shared memory against conflicts.
HALVES = 8
#: Attribute of a function whose shared arrays must not be put into one place.
ARRAYS_APART = "effgen.arrays_apart"


@dataclass(frozen=True)
class FragmentPlan:
    """A block has `warps_m` x `warps_n` warps of `rows` x `columns` fragments each, `depth` fragments of the reduction
    at a time."""

    rows: int
    columns: int
    warps_m: int
    warps_n: int
    depth: int

    @property
    def tile_m(self) -> int:
        """Rows of a block's tile."""
        return self.rows * self.warps_m * FRAGMENT

    @property
    def tile_n(self) -> int:
        """Columns of a block's tile."""
        return self.columns * self.warps_n * FRAGMENT

    @property
    def tile_k(self) -> int:
        """Steps of the reduction at a time."""
        return self.depth * FRAGMENT

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.warps_m * self.warps_n * WARP

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        inputs = 2 * (self.tile_m * (self.tile_k + HALVES) + self.tile_k * (self.tile_n + HALVES))
        return inputs + 4 * self.tile_m * (self.tile_n + HALVES)


def tensor_core_primfunc(workload: Conv2d, machine: Gpu, plan: FragmentPlan) -> PrimFunc:
    """The finished kernel `workload.name`; its arguments are those of `kernel_arguments`."""
    with function(workload, machine) as (builder, arguments):
        _TensorCores(workload, machine, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True).with_attr(ARRAYS_APART, True)


class _TensorCores(Product):
    """The kernel's body; where a warp stands is set when the launch begins."""

    warp_m: Expr
    warp_n: Expr

    def __init__(self, workload: Conv2d, machine: Gpu, plan: FragmentPlan, arguments: list[Buffer]) -> None:
        super().__init__(workload, machine, arguments, plan.tile_m, plan.tile_n, plan.tile_k)
        self.plan = plan

    def write(self) -> None:
        plan = self.plan
        with launch(self.blocks, plan.threads) as (block, thread):
            self.stand(block)
            self.warp_n = thread // WARP % plan.warps_n
            self.warp_m = thread // WARP // plan.warps_n
            data = shared(plan.tile_m, plan.tile_k + HALVES, dtype="float16")
            weight = shared(plan.tile_k, plan.tile_n + HALVES, dtype="float16")
            sums = shared(plan.tile_m, plan.tile_n + HALVES)
            acc = self.fragments("wmma.accumulator", plan.rows * plan.columns, "float32")
            with tir.unroll(0, plan.rows * plan.columns) as number:
                self.intrinsic("tvm_fill_fragment", acc, number, tirx.const(0.0, "float32"))
            self.reduce(thread, data, weight, acc)
            self.gather(acc, sums)
            synchronise()
            self.store(thread, sums)

    def fragments(self, scope: str, count: int, dtype: str) -> Buffer:
        found: Buffer = tir.alloc_buffer((count * FRAGMENT * FRAGMENT,), dtype, scope=scope, layout=None)
        return found

    def intrinsic(self, name: str, fragments: Buffer, number: Index, *rest: object) -> None:
        """A call of one of TVM's fragment operations on fragment `number`."""
        sizes = [FRAGMENT, FRAGMENT, FRAGMENT]
        tir.evaluate(tirx.call_intrin("void", f"tirx.{name}", fragments.data, *sizes, number, *rest))

    def reduce(self, thread: Expr, data: Buffer, weight: Buffer, acc: Buffer) -> None:
        plan = self.plan
        data_pieces, weight_pieces = plan.tile_m * plan.tile_k // HALVES, plan.tile_k * plan.tile_n // HALVES
        fetched = [
            registers(tiles.blocks(pieces, plan.threads), HALVES, dtype="float16")
            for pieces in (data_pieces, weight_pieces)
        ]
        self.fetch(0, thread, *fetched)
        with tir.serial(0, self.depth_tiles) as k_tile:
            self.put(thread, fetched[0], data, plan.tile_k, data_pieces)
            self.put(thread, fetched[1], weight, plan.tile_n, weight_pieces)
            synchronise()
            with guarded([k_tile + 1 < self.depth_tiles]):
                self.fetch((k_tile + 1) * plan.tile_k, thread, *fetched)
            self.multiply(data, weight, acc)
            synchronise()

    def put(self, thread: Expr, fetched: Buffer, tile: Buffer, length: int, pieces: int) -> None:
        """What a thread has fetched of a tile with rows so long, into shared memory."""
        with for_share(pieces, thread, self.plan.threads) as (turn, piece):
            load_vector(tile, place_in_tile(piece, length, HALVES), lambda lane: fetched[turn, lane], HALVES)

    def fetch(self, first_k: Index, thread: Expr, data: Buffer, weight: Buffer) -> None:
        plan = self.plan
        with for_share(plan.tile_m * plan.tile_k // HALVES, thread, plan.threads) as (turn, piece):
            tile_row, tile_k = place_in_tile(piece, plan.tile_k, HALVES)
            self.fetch_data(data, turn, self.data_row(tile_row), first_k + tile_k)
        with for_share(plan.tile_k * plan.tile_n // HALVES, thread, plan.threads) as (turn, piece):
            tile_k, tile_column = place_in_tile(piece, plan.tile_n, HALVES)
            self.fetch_weight(weight, turn, first_k + tile_k, self.first_column + tile_column)

    def fetch_data(self, into: Buffer, turn: Expr, row: Expr, k: Expr) -> None:
        real = below(k, self.depth, self.covered_depth)
        load_or_zero(into, turn, lambda lane: self.data[0, 0, row, k + lane], real, HALVES, "float16")
        if self.gate is not None:
            with guarded(real), tir.unroll(0, HALVES) as lane:
                scaled = as_float(into[turn, lane]) * self.gate[self.image, 0, 0, k + lane]
                tir.buffer_store(into, tirx.Cast("float16", scaled), [turn, lane])

    def fetch_weight(self, into: Buffer, turn: Expr, k: Expr, column: Expr) -> None:
        real = [*below(k, self.depth, self.covered_depth), *below(column, self.width, self.covered_width)]
        load_or_zero(into, turn, lambda lane: self.weight[0, 0, 0, k, column + lane], real, HALVES, "float16")

    def multiply(self, data: Buffer, weight: Buffer, acc: Buffer) -> None:
        plan = self.plan
        rows = self.fragments("wmma.matrix_a", plan.rows, "float16")
        columns = self.fragments("wmma.matrix_b", plan.columns, "float16")
        with tir.unroll(0, plan.depth) as step:
            k = step * FRAGMENT
            with tir.unroll(0, plan.rows) as i:
                self.load_fragment(rows, i, data, (self.warp_m * plan.rows + i) * FRAGMENT, k)
            with tir.unroll(0, plan.columns) as j:
                self.load_fragment(columns, j, weight, k, (self.warp_n * plan.columns + j) * FRAGMENT)
            with tir.unroll(0, plan.rows) as i, tir.unroll(0, plan.columns) as j:
                number = i * plan.columns + j
                arguments = [acc.data, number, rows.data, i, columns.data, j, acc.data, number]
                tir.evaluate(tirx.call_intrin("void", "tirx.tvm_mma_sync", *arguments))

    def load_fragment(self, into: Buffer, number: Index, source: Buffer, row: Index, column: Index) -> None:
        stride = int(source.shape[1])
        place = source.access_ptr("r", offset=row * stride + column)
        self.intrinsic("tvm_load_matrix_sync", into, number, place, stride, "row_major")

    def gather(self, acc: Buffer, sums: Buffer) -> None:
        """The warps' sums side by side in shared memory: which thread holds which element is the hardware's affair."""
        plan, stride = self.plan, int(sums.shape[1])
        with tir.unroll(0, plan.rows) as i, tir.unroll(0, plan.columns) as j:
            row, column = (self.warp_m * plan.rows + i) * FRAGMENT, (self.warp_n * plan.columns + j) * FRAGMENT
            place = sums.access_ptr("w", offset=row * stride + column)
            self.intrinsic("tvm_store_matrix_sync", acc, i * plan.columns + j, place, stride, "row_major")

    def store(self, thread: Expr, sums: Buffer) -> None:
        plan, channels = self.plan, self.workload.out_channels
        per_row = plan.tile_n // HALVES
        with for_share(plan.tile_m * per_row, thread, plan.threads) as (_, piece):
            row, column = self.first_row + piece // per_row, self.first_column + piece % per_row * HALVES
            with guarded([*below(row, self.rows, self.covered_rows), *below(column, channels, self.covered_width)]):
                self.store_vector(sums, piece // per_row, piece % per_row * HALVES, row, column)

    def store_vector(self, sums: Buffer, i: Expr, j: Expr, row: Expr, column: Expr) -> None:
        """Eight outputs, made in registers; singly, and only the real ones, where the channels are no multiple."""
        place, residual = row + self.image * self.rows, self.residual
        done = registers(HALVES, dtype="float16")
        whole = self.workload.out_channels % HALVES == 0
        added = registers(HALVES, dtype="float16")
        if residual is not None and whole:
            load_vector(added, [0], lambda lane: residual[0, 0, place, column + lane], HALVES)
        with tir.unroll(0, HALVES) as lane:
            with guarded([] if whole else [column + lane < self.workload.out_channels]):
                rest = None
                if residual is not None:
                    rest = as_float(added[lane] if whole else residual[0, 0, place, column + lane])
                value = finished(sums[i, j + lane] + self.bias[0, column + lane], self.workload, rest)
                tir.buffer_store(done, tirx.Cast("float16", value), [lane])
                if not whole:
                    tir.buffer_store(self.out, done[lane], [0, 0, place, column + lane])
        if whole:
            with tir.vectorized(0, HALVES) as lane:
                tir.buffer_store(self.out, done[lane], [0, 0, place, column + lane])
