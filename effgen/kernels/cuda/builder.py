"""What the GPU kernels share: a launch, its memories, loads and stores of several values at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer
from tvm.tirx.script.builder import ir as tir

from effgen.kernels.builder import Index, local

#: float32 values that one thread loads at once (16 bytes).
VECTOR = 4
#: Threads of a warp, which run in step.
WARP = 32
#: The most threads that a block may have.
MOST_THREADS = 1024


@contextmanager
def launch(blocks: int, threads: int) -> Iterator[tuple[Expr, Expr]]:
    """A grid of so many blocks of so many threads; gives (block, thread)."""
    assert 0 < threads <= MOST_THREADS, threads
    with tir.launch_thread("blockIdx.x", blocks) as block, tir.launch_thread("threadIdx.x", threads) as thread:
        yield block, thread


def shared(*shape: int, dtype: str = "float32") -> Buffer:
    """An array of the block."""
    return tir.alloc_buffer(shape, dtype, scope="shared", layout=None)


def registers(*shape: int, dtype: str = "float32") -> Buffer:
    """An array of the thread, in registers where every index into it is constant."""
    return local(*shape) if dtype == "float32" else tir.alloc_buffer(shape, dtype, scope="local", layout=None)


def synchronise() -> None:
    """Wait for all threads of the block, and see what they wrote."""
    tir.evaluate(tirx.call_intrin("void", "tirx.tvm_storage_sync", "shared"))


@contextmanager
def for_share(total: int, thread: Expr, threads: int) -> Iterator[tuple[Expr, Expr]]:
    """The block's threads share `total` pieces of work, thread after thread; gives (turn of the thread, piece)."""
    whole, rest = divmod(total, threads)
    with tir.unroll(0, whole + (rest > 0)) as turn:
        piece = turn * threads + thread
        if rest:
            with tir.If(piece < total), tir.Then():
                yield turn, piece
        else:
            yield turn, piece


@contextmanager
def guarded(conditions: Sequence[Expr]) -> Iterator[None]:
    """What is inside happens where all conditions hold."""
    if not conditions:
        yield
        return
    with tir.If(tirx.all(*conditions)), tir.Then():
        yield


def below(index: Expr, extent: int, covered: int) -> list[Expr]:
    """The condition that `index` is real, where indices go up to `covered`."""
    return [index < extent] if covered > extent else []


def as_float(value: Expr) -> Expr:
    """`value` in float32."""
    return value if str(value.ty.dtype) == "float32" else tirx.Cast("float32", value)


def as_type(value: Expr, dtype: str) -> Expr:
    """A float32 `value` in `dtype`."""
    return value if dtype == "float32" else tirx.Cast(dtype, value)


def load_vector(into: Buffer, at: Sequence[Index], value: Callable[[Expr], Expr], width: int = VECTOR) -> None:
    """into[at + lane] = value(lane) for `width` lanes, as one access of memory where both sides allow it."""
    *outer, last = at
    with tir.vectorized(0, width) as lane:
        tir.buffer_store(into, value(lane), [*outer, last + lane])
