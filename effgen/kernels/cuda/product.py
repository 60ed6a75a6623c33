"""What matrix products on a GPU share, whatever units multiply: a block's tile of data[M, K] x weight[K][N]."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import Index
from effgen.kernels.cuda.builder import load_vector
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import bias_shape, input_shapes
from effgen.machines.machine import Gpu


class Product:
    """Arguments and tiles of a kernel: `tile_m` x `tile_n` outputs a block, `tile_k` steps of the reduction at a time.

    Where a block stands is set by `stand`. What `covered_*` counts beyond the real extent is neither read nor stored.
    """

    image: Expr
    first_row: Expr
    first_column: Expr

    def __init__(
        self, workload: Conv2d, machine: Gpu, arguments: list[Buffer], tile_m: int, tile_n: int, tile_k: int
    ) -> None:
        self.workload = workload
        self.width, self.depth = bias_shape(workload, machine)[1], workload.in_channels
        named = dict(zip(input_shapes(workload, machine), arguments, strict=False))
        self.data, self.weight, self.bias = arguments[:3]
        self.gate, self.residual = named.get("gate"), named.get("residual")
        self.out = arguments[-1]
        # A gate differs from image to image: a tile of rows must not reach into the next one.
        self.images = workload.batch if workload.gated else 1
        self.rows = workload.rows // self.images
        self._tile_m, self._tile_n = tile_m, tile_n
        self.row_tiles, self.column_tiles = tiles.blocks(self.rows, tile_m), tiles.blocks(self.width, tile_n)
        self.depth_tiles = tiles.blocks(self.depth, tile_k)
        self.covered_rows, self.covered_width = self.row_tiles * tile_m, self.column_tiles * tile_n
        self.covered_depth = self.depth_tiles * tile_k

    @property
    def blocks(self) -> int:
        """Blocks of the launch."""
        return self.images * self.row_tiles * self.column_tiles

    def stand(self, block: Expr) -> None:
        """Take the tile of this block."""
        self.image = block // (self.row_tiles * self.column_tiles)
        self.first_row = block // self.column_tiles % self.row_tiles * self._tile_m
        self.first_column = block % self.column_tiles * self._tile_n

    def data_row(self, row: Expr) -> Expr:
        """The row of all images to read for a row of the tile; beyond the end it is the last one again."""
        return tirx.min(self.first_row + row, self.rows - 1) + self.image * self.rows


def load_or_zero(
    into: Buffer, turn: Expr, value: Callable[[Expr], Expr], real: list[Expr], width: int, dtype: str
) -> None:
    """into[turn] = value where it is real, else zeros; of `width` lanes all are real, or none."""
    if not real:
        load_vector(into, [turn, 0], value, width)
        return
    with tir.If(tirx.all(*real)):
        with tir.Then():
            load_vector(into, [turn, 0], value, width)
        with tir.Else(), tir.unroll(0, width) as lane:
            tir.buffer_store(into, tirx.const(0.0, dtype), [turn, lane])


def place_in_tile(piece: Expr, length: int, width: int) -> tuple[Expr, Index]:
    """Row and first column of vector number `piece` of a tile whose rows are `length` long."""
    per_row = length // width
    return piece // per_row, piece % per_row * width
