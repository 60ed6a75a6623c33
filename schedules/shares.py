"""How a scheduled kernel is shared out, read off its loops: tasks, their work, and the cores that they leave idle.

The model counts what is in the loops and nothing else: tasks of one loop are alike, a core takes the next one when it
has done with one, whatever is not shared out is done by one core while the others wait. Launches, caches and memory are
not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx
from tvm.ir.expr import TensorLoad
from tvm.ir.prim import expr as prim
from tvm.sym import Analyzer
from tvm.tirx import PrimFunc
from tvm_ffi import Array

from effgen.kernels import tiles


@dataclass(frozen=True)
class Shares:
    """Work of a kernel, in operations of a vector: `alone` is what one core does, `loops` the tasks and the work of all
    of them for each loop that is shared out."""

    alone: float
    loops: tuple[tuple[int, float], ...]

    @property
    def work(self) -> float:
        """Of all cores together."""
        return self.alone + sum(work for _, work in self.loops)

    def time(self, cores: int) -> float:
        """Until the busiest of so many cores is done."""
        return self.alone + sum(work * tiles.blocks(tasks, cores) / tasks for tasks, work in self.loops)

    def idle(self, cores: int) -> float:
        """The share of the cores' time in which they have nothing to do: 0 where all are busy to the end."""
        return 1.0 - self.work / (cores * self.time(cores))

    @property
    def tasks(self) -> int:
        """Of the loop with the most work; 1 where nothing is shared out."""
        return max(self.loops, key=lambda loop: loop[1])[0] if self.loops else 1


def shares_of(func: PrimFunc, lanes: int) -> Shares:
    """The shares of a scheduled kernel; `lanes`: float32 values of a vector."""
    loops = _Loops(lanes, _opaque_values(func.body))
    shared = [(tasks, tasks * loops.work(body) * times) for tasks, body, times in loops.shared(func.body, 1.0)]
    alone = loops.work(func.body) - sum(work for _, work in shared)
    return Shares(max(0.0, alone), tuple(loop for loop in shared if loop[1] > 0))


def _opaque_values(stmt: Any) -> dict[Any, int]:
    """What stands in arrays of one number that the compiler is not to know (`effgen.kernels.builder.opaque`)."""
    if isinstance(stmt, tirx.BufferStore) and isinstance(stmt.value, tirx.IntImm):
        return {stmt.buffer: int(stmt.value)}
    return {buffer: value for part in _parts(stmt) for buffer, value in _opaque_values(part).items()}


@dataclass(frozen=True)
class _Loops:
    lanes: int
    opaque: Mapping[Any, int]

    def shared(self, stmt: Any, times: float) -> Iterator[tuple[int, Any, float]]:
        """Every loop that is shared out: its tasks, its body, and how often it runs."""
        if isinstance(stmt, tirx.For) and stmt.kind == tirx.ForKind.PARALLEL:
            yield self.extent(stmt), stmt.body, times
            return
        repeated = times * self.extent(stmt) if isinstance(stmt, tirx.For) else times
        for part in _parts(stmt):
            yield from self.shared(part, repeated)

    def work(self, stmt: Any) -> float:
        """Operations of vectors in a statement."""
        if isinstance(stmt, tirx.BufferStore):
            return max(1.0, _operations(stmt.value) / 2)  # a multiply-add is one
        inside = sum(self.work(part) for part in _parts(stmt))
        if not isinstance(stmt, tirx.For):
            return inside
        extent = self.extent(stmt)
        return inside * (tiles.blocks(extent, self.lanes) if stmt.kind == tirx.ForKind.VECTORIZED else extent)

    def extent(self, loop: Any) -> int:
        """Iterations of a loop, the most where the last turn is shorter."""
        if isinstance(loop.extent, tirx.IntImm):
            return int(loop.extent)
        if isinstance(loop.extent, TensorLoad):
            return self.opaque[loop.extent.source]
        return int(Analyzer().const_int_bound(loop.extent).max_value)


def _operations(value: Any) -> int:
    """Float operations of an expression, indices left out."""
    own = int(isinstance(value, _ARITHMETIC) and str(value.ty).startswith("float"))
    return own + sum(_operations(part) for name in _OPERANDS for part in _listed(getattr(value, name, ())))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Array | tuple) else (value,)


_ARITHMETIC = (prim.Add, prim.Sub, prim.Mul, prim.Div, prim.Max, prim.Min)
_OPERANDS = ("a", "b", "value", "body", "true_value", "false_value", "args")


def _parts(stmt: Any) -> Iterator[Any]:
    """The statements inside a statement; of a choice the first, which is what the middle of an image does."""
    if isinstance(stmt, tirx.SeqStmt):
        yield from stmt.seq
    elif isinstance(stmt, tirx.IfThenElse):
        yield stmt.then_case
    elif isinstance(stmt, s_tir.SBlockRealize):
        yield from (part for part in (stmt.block.init, stmt.block.body) if part is not None)
    elif isinstance(stmt, tirx.For | tirx.AttrStmt):
        yield stmt.body
