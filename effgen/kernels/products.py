"""Products of matrices that are both computed: attention's. Leading axes are as many products as they have places.

    for task in parallel(products x tiles of rows): for tiles of columns:
        acc[rows, vectors, lanes] = 0                          in registers
        for k: acc += left[row, k] * right[k, vector]
        out = acc

The last tile or vector is moved back until it fits (`effgen.kernels.matmul`).
"""

from __future__ import annotations

from math import prod

from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import Index, local, register_tile, tile_start, zero
from effgen.machines.machine import Cpu

_MOST_VECTORS = 2


def product_primfunc(leading: tuple[int, ...], rows: int, depth: int, columns: int, machine: Cpu) -> PrimFunc:
    """left [..., rows, depth] x right [..., depth, columns] = out; the function is private."""
    lanes = min(machine.lanes, columns)
    count = tiles.blocks(columns, lanes)
    vectors = min(_MOST_VECTORS, count)
    height = max(h for h in range(1, machine.vector_registers) if tiles.fits_registers(h, vectors, machine))
    height = min(height, rows)
    row_tiles = tiles.blocks(rows, height)

    def product(number: Expr) -> list[Index]:
        found: list[Index] = []
        for extent in reversed(leading):
            found.insert(0, number % extent)
            number = number // extent
        return found

    with IRBuilder() as builder, tir.prim_func(is_private=True, s_tir=True):
        tir.func_name("matmul")
        tir.func_attr({"tirx.noalias": True})
        shapes = ((rows, depth), (depth, columns), (rows, columns))
        left, right, out = (
            tir.arg(name, tir.buffer((*leading, *shape), "float32", layout=None))
            for name, shape in zip(("left", "right", "out"), shapes, strict=True)
        )
        with tir.parallel(0, prod(leading) * row_tiles) as task:
            at, row = product(task // row_tiles), tile_start(task % row_tiles, rows, height)
            with tir.serial(0, tiles.blocks(count, vectors)) as number:
                first, acc = tile_start(number, count, vectors), local(height, vectors, lanes)

                def column(v: Expr, first: Index = first) -> Index:
                    return tile_start(first + v, columns, lanes)

                with register_tile(height, vectors, lanes) as (i, v, lane):
                    tir.buffer_store(acc, zero(), [i, v, lane])
                with tir.serial(0, depth) as k, register_tile(height, vectors, lanes) as (i, v, lane):
                    term = left[(*at, row + i, k)] * right[(*at, k, column(v) + lane)]
                    tir.buffer_store(acc, acc[i, v, lane] + term, [i, v, lane])
                with register_tile(height, vectors, lanes) as (i, v, lane):
                    tir.buffer_store(out, acc[i, v, lane], [*at, row + i, column(v) + lane])
    return builder.get().with_attr("tirx.is_scheduled", True)
