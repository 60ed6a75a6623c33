"""The Relax values of a graph's tensors, each in a layout of its own until somebody asks for another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from effgen.compiler.calls import CodesOf
from effgen.graph import Graph, Weights
from effgen.graph.ops import Shape

#: The axes of a tensor in the order in which they are stored.
Layout = tuple[int, ...]

#: How kernels of ours keep images that the graph declares as (batch, channels, height, width).
NHWC: Layout = (0, 2, 3, 1)


class Tensors:
    """What has been computed so far, by the graph's names.

    A tensor is stored with its axes in the order of its layout. So a Transpose costs nothing by itself: its output is
    the same value in another layout. It is paid for where an operator needs an order that is not there.

    All are of type `dtype` but `codes`, which are bytes.
    """

    def __init__(
        self, graph: Graph, weights: Weights, dtype: str, codes: Mapping[str, CodesOf] = MappingProxyType({})
    ) -> None:
        self.graph, self.weights, self.dtype, self.codes = graph, weights, dtype, codes
        self.builder = relax.BlockBuilder()
        self._values: dict[str, relax.Expr] = {}
        self._layouts: dict[str, Layout] = {}
        self._ours: dict[str, relax.Expr] = {}
        self._laid: dict[tuple[str, Layout], relax.Expr] = {}

    def put(self, name: str, value: relax.Expr, layout: Layout | None = None) -> None:
        """`value` is the tensor `name`, stored in `layout`; None: as the graph declares it."""
        self._values[name] = value
        self._layouts[name] = layout or plain(len(self.shape(name)))

    def put_ours(self, name: str, value: relax.Expr) -> None:
        """`value` is a tensor between two kernels of ours that the graph knows nothing of."""
        self._ours[name] = value

    def shape(self, name: str) -> Shape:
        """As the graph declares it."""
        return self.graph.values[name].shape

    def is_constant(self, name: str) -> bool:
        return name in self.graph.parameters

    def raw(self, name: str) -> relax.Expr:
        """The value as it is stored, of whatever type."""
        return self._values[name]

    def layout(self, name: str) -> Layout:
        return self._layouts[name]

    def laid(self, name: str, layout: Layout) -> relax.Expr:
        """A tensor or a constant in this layout, in the network's type, or a tensor of codes as they are."""
        if self.is_constant(name):
            return self.constant(self.weights[name].transpose(layout))
        if (name, layout) not in self._laid:
            kind = self.codes[name].type if name in self.codes else self.dtype
            value = self.converted(self._values[name], kind)
            self._laid[name, layout] = self._permuted(value, name, layout)
        return self._laid[name, layout]

    def images(self, name: str) -> relax.Expr:
        """NHWC where the tensor has four axes, else as declared; what is between kernels of ours as it is."""
        if name in self._ours:
            return self._ours[name]
        return self.laid(name, NHWC if len(self.shape(name)) == 4 else plain(len(self.shape(name))))

    def declared(self, name: str) -> relax.Expr:
        """As the graph declares it."""
        return self.laid(name, plain(len(self.shape(name))))

    def constant(self, array: NDArray[Any]) -> relax.Expr:
        return relax.const(np.ascontiguousarray(array).astype(self.dtype, copy=False))

    def number(self, value: float) -> relax.Expr:
        return relax.const(value, self.dtype)

    def emit(self, expr: relax.Expr) -> relax.Expr:
        return self.builder.emit(expr)

    def converted(self, value: relax.Expr, dtype: str) -> relax.Expr:
        return value if value.ty.dtype == dtype else self.emit(relax.op.astype(value, dtype))

    def shaped(self, value: relax.Expr, shape: Sequence[int]) -> relax.Expr:
        """A stored value in another shape, its elements in the same order."""
        if tuple(int(extent) for extent in value.ty.shape) == tuple(shape):
            return value
        return self.emit(relax.op.reshape(value, tuple(shape)))

    def unshaped(self, value: relax.Expr) -> relax.Expr:
        """What a reshape was made of. The entry's arrays are flat, but reshaping what is returned would be a copy."""
        made = self.builder.lookup_binding(value) if isinstance(value, relax.Var) else None
        while isinstance(made, relax.Call) and getattr(made.op, "name", "") == "relax.reshape":
            value = made.args[0]
            made = self.builder.lookup_binding(value)
        return value

    def _permuted(self, value: relax.Expr, name: str, layout: Layout) -> relax.Expr:
        """Where only axes of one element move it is a reshape, which costs nothing. Judged by axes, not by their sizes:
        two of them may be equal."""
        found, shape = self._layouts[name], self.shape(name)
        if found == layout:
            return value
        if [axis for axis in found if shape[axis] != 1] == [axis for axis in layout if shape[axis] != 1]:
            return self.shaped(value, stored(shape, layout))
        return self.emit(relax.op.permute_dims(value, [found.index(axis) for axis in layout]))


def plain(rank: int) -> Layout:
    """The layout of a tensor that is stored as declared."""
    return tuple(range(rank))


def stored(shape: Sequence[int], layout: Layout) -> Shape:
    """The shape in which a tensor is stored."""
    return tuple(shape[axis] for axis in layout)


def places(axes: Sequence[int], layout: Layout) -> list[int]:
    """Where declared axes are stored."""
    return [layout.index(axis) for axis in axes]
