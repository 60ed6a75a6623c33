"""Products of whole-number codes in a register tile, and results rounded to codes.

    sums[row, vector, lane] = start[vector, lane]                           int32
    sums += dot(codes of the row, `depth` at a time, weights of the lane)   one instruction (`effgen.machines.dot`)
    sums * factor + bias                                                    float32, to be activated

`start` holds what the zero point of the data takes from every sum: so the products are of the codes as they lie in
memory, and sums are exact. Where the instruction takes codes as int16, the rows of a tile are widened once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import Index, tile_start
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.math import clip_between, rounded_bits
from effgen.kernels.workload import CODE_TYPES
from effgen.machines.dot import Dot
from effgen.machines.machine import Cpu

# LLVM's intrinsic of an instruction, by lanes of int32.
_INTRINSICS = {
    "vpdpbusd": {
        16: "llvm.x86.avx512.vpdpbusd.512",
        8: "llvm.x86.avx512.vpdpbusd.256",
        4: "llvm.x86.avx512.vpdpbusd.128",
    },
    "vpmaddwd": {8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"},
    "sdot": {4: "llvm.aarch64.neon.sdot.v4i32.v16i8", 2: "llvm.aarch64.neon.sdot.v2i32.v8i8"},
}
# Codes widened at once.
_RUN = 16

#: Where the codes of row `i` of a tile lie in an array, from input channel k on (k may be a vector).
PlaceOf = Callable[[Index, Index], Sequence[Index]]


@dataclass(frozen=True)
class CodeProducts:
    """A convolution's parameters, packed; what multiplies them, for vectors of `lanes`; its input channels."""

    weight: Buffer
    start: Buffer
    factor: Buffer
    bias: Buffer
    dot: Dot
    lanes: int
    channels: int

    @property
    def steps(self) -> int:
        """Of the reduction."""
        return self.channels // self.dot.depth

    def begun(self, rows: int, vectors: int, first_vector: Index) -> Buffer:
        """The sums of a tile before the first product."""
        sums: Buffer = tir.alloc_buffer((rows, vectors, self.lanes), "int32", scope="local", layout=None)
        with tir.unroll(0, rows) as i, tir.unroll(0, vectors) as v:
            place = [i, v, self._all_lanes()]
            tir.buffer_store(sums, self.start[first_vector + v, self._all_lanes()], place)
        return sums

    def rows_of(self, data: Buffer, place: PlaceOf, rows: int) -> Callable[[Index, Index], Expr]:
        """The codes of (row, step) of a tile, as the instruction takes them: for all lanes the same. Call it where they
        may be widened."""
        depth = self.dot.depth
        if not self.dot.widened:
            return lambda i, step: self._spread(data[tuple(place(i, tirx.Ramp(step * depth, 1, depth)))])
        wide: Buffer = tir.alloc_buffer((rows, self.channels), "int16", scope="local", layout=None)
        run = min(_RUN, self.channels)
        with tir.unroll(0, rows) as i, tir.serial(0, tiles.blocks(self.channels, run)) as index:
            with tir.vectorized(0, run) as lane:
                k = tile_start(index, self.channels, run) + lane
                tir.buffer_store(wide, tirx.Cast("int16", data[tuple(place(i, k))]), [i, k])
        return lambda i, step: self._spread(wide[i, tirx.Ramp(step * depth, 1, depth)])

    def multiply(self, sums: Buffer, rows_at: Callable[[Index, Index], Expr], first_vector: Index, step: Index) -> None:
        """sums += codes of the rows * weights of the vectors, of one step."""
        rows, vectors = (int(extent) for extent in sums.shape[:2])
        with tir.unroll(0, rows) as i, tir.unroll(0, vectors) as v:
            place = (i, v, self._all_lanes())
            columns = tirx.Ramp(0, 1, self.lanes * self.dot.depth)
            weight = self.weight[first_vector + v, 0, 0, step, columns]
            tir.buffer_store(sums, self._added(sums[place], rows_at(i, step), weight), list(place))

    def result(self, sums: Buffer, at: tuple[Index, Index, Expr], first_vector: Index) -> Expr:
        """The number that the sum of (row, vector, lane) stands for, bias added."""
        _, v, lane = at
        place = (first_vector + v, lane)
        return tirx.Cast("float32", sums[at]) * self.factor[place] + self.bias[place]

    def _all_lanes(self) -> Expr:
        return tirx.Ramp(0, 1, self.lanes)

    def _spread(self, codes: Expr) -> Expr:
        """As many codes as a lane takes, in every lane."""
        return tirx.Broadcast(tirx.reinterpret("int32", codes), self.lanes)

    def _added(self, sums: Expr, codes: Expr, weight: Expr) -> Expr:
        intrinsic, count = _INTRINSICS[self.dot.instruction][self.lanes], self.lanes * self.dot.depth
        kind = f"int32x{self.lanes}"
        if self.dot.widened:
            wide = f"int16x{count}"
            operands = (tirx.reinterpret(wide, codes), tirx.Cast(wide, weight))
            return sums + tirx.call_llvm_pure_intrin(kind, intrinsic, *operands)
        codes = tirx.reinterpret(f"{self.dot.codes}x{count}", codes)
        return tirx.call_llvm_pure_intrin(kind, intrinsic, sums, codes, weight)


def code_products(conv: Conv2d, machine: Cpu, arguments: Mapping[str, Buffer], prefix: str = "") -> CodeProducts:
    """Those of a convolution, by its kernel's arguments."""
    weight, start, factor, bias = (arguments[argument.name] for argument in conv.parameters(prefix))
    assert machine.dot is not None and machine.dot.codes == conv.dtype, (conv, machine)
    return CodeProducts(weight, start, factor, bias, machine.dot, int(bias.shape[-1]), conv.in_channels)


def stored(number: Expr, conv: Conv2d, grid: Buffer | None) -> Expr:
    """What a convolution stores for a number: itself, or its code."""
    if conv.code_type is None or grid is None:
        return number
    return codes_of(number, conv.code_type, grid)


def number_of(code: Expr, grid: Buffer) -> Expr:
    """What a code stands for, float32; `grid`: scale and zero point."""
    return (tirx.Cast("float32", code) - grid[1]) * grid[0]


def codes_of(number: Expr, code_type: str, grid: Buffer) -> Expr:
    """The code of a float32 number; `grid`: a scale's reciprocal, and the zero point."""
    low, high = (tirx.const(float(bound), "float32") - grid[1] for bound in CODE_TYPES[code_type])
    steps = rounded_bits(clip_between(number * grid[0], low, high))
    return tirx.Cast(code_type, steps + tirx.Cast("int32", grid[1]))
