"""What the kernels' definitions share: small steps with TVM's IR builder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TypeAlias

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import Buffer
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.packing import kernel_arguments
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine

Index: TypeAlias = Expr | int

# Arguments of the prefetch instruction: how near (to be read, into the second level, where it drives nothing out that a
# tile works on; to be written, all the way), and that it is not for code.
_TO_READ, _TO_WRITE, _DATA = (0, 2), (1, 3), 1
# Of a cache line.
_LINE_FLOATS = 16
# Floats copied at once; LLVM makes whole vectors of them.
_RUN = 16


@contextmanager
def function(workload: Workload, machine: Machine) -> Iterator[tuple[IRBuilder, list[Buffer]]]:
    """The workload's function: its inputs, then its outputs; the builder holds it after the block."""
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name(workload.name)
        tir.func_attr({"global_symbol": workload.name, "tirx.noalias": True})
        yield (
            builder,
            [
                tir.arg(argument.name, tir.buffer(argument.shape, argument.dtype, layout=None))
                for argument in kernel_arguments(workload, machine)
            ],
        )


@contextmanager
def block(name: str, spatial: Sequence[int], reduction: Sequence[int] = ()) -> Iterator[list[Expr]]:
    """A block inside its own loop nest; gives the block's variables, spatial ones first."""
    extents = [*spatial, *reduction]
    with tir.grid(*extents) as loops, tir.sblock(name):
        loop_list = [loops] if len(extents) == 1 else list(loops)
        split = len(spatial)
        variables = [tir.axis.spatial(e, v) for e, v in zip(spatial, loop_list[:split], strict=True)]
        variables += [tir.axis.reduce(e, v) for e, v in zip(reduction, loop_list[split:], strict=True)]
        yield variables


def temporary(*shape: int) -> Buffer:
    """An array of the function; a schedule decides where it lives."""
    return tir.sblock_alloc_buffer(shape, "float32", layout=None)


def local(*shape: int) -> Buffer:
    """An array on the stack, in registers where every index into it is constant."""
    return tir.alloc_buffer(shape, "float32", scope="local", layout=None)


def loaded_ahead(rows: int, depth: int, value: Callable[[Expr, Index], Expr]) -> Callable[[Expr, Index], Expr]:
    """`value(row, step)` of a register tile's rows; with a `depth` above 1, each row's steps are loaded as one vector.

    Call it where they are to be loaded; the processor then multiplies by a lane of the vector.
    """
    if depth == 1:
        return value
    loaded = local(rows, depth)
    with tir.unroll(0, rows) as i, tir.vectorized(0, depth) as step:
        tir.buffer_store(loaded, value(i, step), [i, step])
    return lambda i, step: loaded[i, step]


def opaque(value: int) -> Expr:
    """`value`, which the compiler cannot know: LLVM does not unroll a loop of so many iterations."""
    kept: Buffer = tir.alloc_buffer((1,), "int32", scope="local", layout=None, annotations={"tirx.volatile": True})
    tir.buffer_store(kept, tirx.const(value, "int32"), [0])
    return kept[0]


@contextmanager
def register_tile(columns: int, vectors: int, lanes: int) -> Iterator[tuple[Expr, Expr, Expr]]:
    """Loops over columns x vectors x lanes that leave nothing but vector instructions."""
    with tir.unroll(0, columns) as i, tir.unroll(0, vectors) as v, tir.vectorized(0, lanes) as lane:
        yield i, v, lane


def zero() -> Expr:
    return tirx.const(0.0, "float32")


def tile_start(index: Index, extent: int, tile: int) -> Index:
    """Where tile number `index` begins; the last one is moved back until it fits."""
    if extent % tile == 0:
        return index * tile
    return tirx.min(index * tile, extent - tile)


def fewer(first: Index, most: int, extent: int) -> Index:
    """How many of `most` there are from `first` on, before `extent` ends."""
    return most if isinstance(first, int) or extent % most == 0 else tirx.min(most, extent - first)


@contextmanager
def run(count: int) -> Iterator[Expr]:
    """A loop over `count` floats that lie side by side, by vectors; the last of them is moved back until it fits."""
    step = min(_RUN, count)
    with tir.serial(0, tiles.blocks(count, step)) as index, tir.vectorized(0, step) as lane:
        yield tile_start(index, count, step) + lane


def channel_of(block: Index, lane: Expr, channels: int, lanes: int) -> Expr:
    """The output channel of a lane of vector number `block` (`effgen.kernels.packing.first_channel`); beyond the
    channels where there are fewer than lanes."""
    return tile_start(block, max(channels, lanes), lanes) + lane


@contextmanager
def if_real(channel: Expr, channels: int, width: int) -> Iterator[None]:
    """What is inside happens for real channels only; no test where no lanes were added to fill a vector."""
    if channels >= width:
        yield
        return
    with tir.If(channel < channels), tir.Then():
        yield


def or_zero(conditions: list[Expr], value: Expr) -> Expr:
    """`value` where all conditions hold, else zero."""
    if not conditions:
        return value
    return tirx.if_then_else(tirx.all(*conditions), value, zero())


def pairwise(values: list[Expr]) -> Expr:
    """Their sum as a tree: the additions do not wait for each other, and round less."""
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=False)
        values = [a + b for a, b in pairs] + values[len(values) - len(values) % 2 :]
    return values[0]


def prefetch(array: Buffer, index: Sequence[Index], write: bool = False) -> None:
    """Ask for the cache line of `array[index]`, which may lie beyond the array: a prefetch never faults."""
    address = tirx.address_of(array[tuple(index)])
    kind = _TO_WRITE if write else _TO_READ
    tir.evaluate(tirx.call_intrin("void", "tirx.prefetch", address, *kind, _DATA))


class Ahead:
    """Asks for the weights of later kernels bit by bit, while a kernel takes `steps` steps (as few as one a line)."""

    def __init__(self, arrays: Sequence[Buffer], steps: int) -> None:
        self.arrays = arrays
        self.steps = steps

    def step(self, number: Index) -> None:
        """What is asked for in step `number` of all; the steps together cover every array."""
        for array in self.arrays:
            *outer, lanes = (int(extent) for extent in array.shape)
            stride = max(1, _LINE_FLOATS // lanes)
            lines = tiles.blocks(prod(outer), stride)
            each = tiles.blocks(lines, self.steps)
            with tir.unroll(0, each) as i:
                # Steps left over ask for the last line again: it is near by then, and costs nothing.
                line = tirx.min(number * each + i, lines - 1)
                prefetch(array, [*(0 for _ in outer[1:]), line * stride, 0])
