"""Rows of numbers that lie side by side, each brought to one scale: softmax, its logarithm, layer normalization.

    for row in parallel(rows):
        a maximum or a sum of the row         lane by lane in one vector, the lanes at the end
        out = what is left of it              exp(x - maximum), or x - mean; that or its square summed up likewise
        out = out * a factor of the row       [* scale + shift]

A row stays in the nearest cache from pass to pass. What fills no vector at a row's end is a shorter vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels.builder import local
from effgen.kernels.math import exp
from effgen.machines.machine import Cpu

_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Rows:
    """An array of `shape`, whose last axis is a row; vectors of `lanes`; `parallel`: whether cores share the rows."""

    shape: tuple[int, ...]
    lanes: int
    parallel: bool

    @staticmethod
    def of(shape: tuple[int, ...], machine: Cpu, parallel: bool) -> Rows:
        return Rows(shape, min(machine.lanes, shape[-1]), parallel)


def softmax_primfunc(rows: Rows) -> PrimFunc:
    """out = exp(x - maximum) / sum of those. Arguments: x, out; the function is private."""
    with _function("softmax", rows.shape, rows.shape) as (builder, (x, out)), _each(rows) as row:
        top = row.largest(x)

        def power(place: list[Expr]) -> Expr:
            tir.buffer_store(out, exp(x[tuple(place)] - top), place)
            return out[tuple(place)]

        factor = _kept(tirx.const(1.0, "float32") / row.sum(power))
        row.store(out, lambda place: out[tuple(place)] * factor)
    return builder.get().with_attr("tirx.is_scheduled", True)


def log_softmax_primfunc(rows: Rows) -> PrimFunc:
    """out = x - maximum - log(sum of exp(x - maximum)). Arguments: x, out; the function is private."""
    with _function("log_softmax", rows.shape, rows.shape) as (builder, (x, out)), _each(rows) as row:
        top = row.largest(x)
        less = _kept(top + tirx.log(row.sum(lambda place: exp(x[tuple(place)] - top))))
        row.store(out, lambda place: x[tuple(place)] - less)
    return builder.get().with_attr("tirx.is_scheduled", True)


def layer_norm_primfunc(rows: Rows, epsilon: float) -> PrimFunc:
    """out = (x - mean) / sqrt(variance + epsilon) * scale + shift. Arguments: x, scale, shift (a row each), out; the
    function is private. The variance is that of the differences: a large mean takes nothing from it."""
    row_shape, share = rows.shape[-1:], tirx.const(1.0 / rows.shape[-1], "float32")
    with _function("layer_norm", rows.shape, row_shape, row_shape, rows.shape) as (builder, (x, scale, shift, out)):
        with _each(rows) as row:
            mean = _kept(row.sum(lambda place: x[tuple(place)]) * share)

            def squared(place: list[Expr]) -> Expr:
                tir.buffer_store(out, x[tuple(place)] - mean, place)
                return out[tuple(place)] * out[tuple(place)]

            spread = row.sum(squared) * share + tirx.const(epsilon, "float32")
            factor = _kept(tirx.const(1.0, "float32") / tirx.sqrt(spread))
            row.store(out, lambda place: out[tuple(place)] * factor * scale[place[-1]] + shift[place[-1]])
    return builder.get().with_attr("tirx.is_scheduled", True)


@contextmanager
def _function(name: str, *shapes: tuple[int, ...]) -> Iterator[tuple[IRBuilder, list[Buffer]]]:
    """A private function of float32 arrays."""
    with IRBuilder() as builder, tir.prim_func(is_private=True, s_tir=True):
        tir.func_name(name)
        tir.func_attr({"tirx.noalias": True})
        arguments = [
            tir.arg(f"argument{index}", tir.buffer(shape, "float32", layout=None)) for index, shape in enumerate(shapes)
        ]
        # TVM asks of every function of one input and one output whether it is a reshape, and looks for a block then.
        with tir.sblock("root"):
            yield builder, arguments


@contextmanager
def _each(rows: Rows) -> Iterator[_Row]:
    loop = tir.parallel if rows.parallel else tir.serial
    with loop(0, prod(rows.shape[:-1])) as number:
        yield _Row(rows, number)


def _kept(value: Expr) -> Expr:
    """One number, computed once."""
    kept = local(1)
    tir.buffer_store(kept, value, [0])
    return kept[0]


@dataclass(frozen=True)
class _Row:
    rows: Rows
    number: Expr

    def place(self, at: Expr) -> list[Expr]:
        """Where number `at` of the row stands in the array."""
        found, number = [at], self.number
        for extent in reversed(self.rows.shape[:-1]):
            found.insert(0, number % extent)
            number = number // extent
        return found

    @contextmanager
    def _vector(self, first: Expr | int, lanes: int) -> Iterator[tuple[Expr, list[Expr]]]:
        with tir.vectorized(0, lanes) as lane:
            yield lane, self.place(first + lane)

    def each_vector(self, body: Callable[[Expr, list[Expr]], None]) -> None:
        """`body` of the lane and the place, for the whole vectors of the row, then for its end."""
        whole, rest = divmod(self.rows.shape[-1], self.rows.lanes)
        with tir.serial(0, whole) as index, self._vector(index * self.rows.lanes, self.rows.lanes) as (lane, place):
            body(lane, place)
        if rest:
            with self._vector(whole * self.rows.lanes, rest) as (lane, place):
                body(lane, place)

    def store(self, out: Buffer, value: Callable[[list[Expr]], Expr]) -> None:
        """out = a value of every place."""
        self.each_vector(lambda lane, place: tir.buffer_store(out, value(place), place))

    def sum(self, value: Callable[[list[Expr]], Expr]) -> Expr:
        """The sum of a value of every place."""
        return self._joined(value, lambda a, b: a + b, 0.0)

    def largest(self, x: Buffer) -> Expr:
        return self._joined(lambda place: x[tuple(place)], tirx.max, _LOWEST)

    def _joined(self, value: Callable[[list[Expr]], Expr], join: Callable[[Expr, Expr], Expr], start: float) -> Expr:
        acc = local(self.rows.lanes)
        with tir.vectorized(0, self.rows.lanes) as lane:
            tir.buffer_store(acc, tirx.const(start, "float32"), [lane])
        self.each_vector(lambda lane, place: tir.buffer_store(acc, join(acc[lane], value(place)), [lane]))
        return _kept(reduce(join, (acc[lane] for lane in range(self.rows.lanes))))
