"""Computations that Relax has no operator for: elements taken from places that are known when a network is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, te

from effgen.compiler.tensors import Tensors
from effgen.graph.resize import Taps


def resized(t: Tensors, value: relax.Expr, axis: int, taps: Taps) -> relax.Expr:
    """One axis of a stored tensor made of weighted elements of it; the same axis where each is its own."""
    count, width = taps.indices.shape
    if width == 1 and np.array_equal(taps.indices[:, 0], np.arange(int(value.ty.shape[axis]))):
        return value
    places = [relax.const(taps.indices[:, tap].astype(np.int32)) for tap in range(width)]
    shares = [t.constant(taps.weights[:, tap]) for tap in range(width)]
    alone = width == 1 and bool(np.all(taps.weights == 1))

    def compute(data: te.Tensor, *others: te.Tensor) -> te.Tensor:
        shape = [*data.shape[:axis], count, *data.shape[axis + 1 :]]

        def element(*at: Any) -> Any:
            def tap(index: int) -> Any:
                found = data(*at[:axis], others[index][at[axis]], *at[axis + 1 :])
                return found if alone else found * others[width + index][at[axis]]

            total = tap(0)
            for index in range(1, width):
                total = total + tap(index)
            return total

        return te.compute(shape, element, name="resize")

    return t.builder.emit_te(compute, value, *places, *([] if alone else shares), primfunc_name_hint="resize")


def padded(
    t: Tensors, value: relax.Expr, before: Sequence[int], after: Sequence[int], mode: str, number: float
) -> relax.Expr:
    """A stored tensor with a border: a number, its own edge, or itself mirrored there."""
    extents = [int(extent) for extent in value.ty.shape]

    def place(index: Any, axis: int) -> Any:
        inner, last = index - before[axis], extents[axis] - 1
        if not before[axis] and not after[axis]:
            return index
        if mode == "edge":
            return tvm.tirx.max(tvm.tirx.min(inner, last), 0)
        if mode == "reflect":
            return last - tvm.tirx.abs(last - tvm.tirx.abs(inner))
        return inner

    def compute(data: te.Tensor) -> te.Tensor:
        shape = [low + extent + high for low, extent, high in zip(before, extents, after, strict=True)]

        def element(*at: Any) -> Any:
            inner = [place(index, axis) for axis, index in enumerate(at)]
            if mode != "constant":
                return data(*inner)
            checks = [
                check
                for axis, index in enumerate(inner)
                if before[axis] or after[axis]
                for check in (index >= 0, index < extents[axis])
            ]
            return tvm.tirx.if_then_else(tvm.tirx.all(*checks), data(*inner), tvm.tirx.const(number, data.dtype))

        return te.compute(shape, element, name="pad")

    return t.builder.emit_te(compute, value, primfunc_name_hint="pad")


def window_sums(t: Tensors, value: relax.Expr, size: int) -> relax.Expr:
    """Sums over `size` neighbours along the last axis, zeros beyond it; of an even number there is one more behind."""
    before = (size - 1) // 2
    wide = padded(t, value, (0, 0, 0, before), (0, 0, 0, size - 1 - before), "constant", 0.0)

    def compute(data: te.Tensor) -> te.Tensor:
        shape = [*data.shape[:-1], data.shape[-1] - (size - 1)]
        near = te.reduce_axis((0, size), "near")
        return te.compute(shape, lambda *at: te.sum(data(*at[:-1], at[-1] + near), near), name="window_sums")

    return t.builder.emit_te(compute, wide, primfunc_name_hint="window_sums")
