"""Means over an image, however they are said, as GlobalAveragePool:

ReduceMean(ReduceMean(x, 3), 2)                        becomes      GlobalAveragePool(x)
ReduceMean(Reshape(x) to (n, c, h * w), 2)             becomes      GlobalAveragePool(x), reshaped
ReduceMean(Transpose(x), 1 and 2)  channels last       becomes      GlobalAveragePool(x), transposed
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Weights
from effgen.graph.ops import Shape, integer, ints
from effgen.graph.passes.rewriter import Rewriter


def join_means(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph with one operator for each mean over height and width."""
    return _Means(graph, weights).run()


class _Means(Rewriter):
    def visit(self, node: Node) -> None:
        if node.op_type != "ReduceMean":
            self.keep(node)
            return
        source, axes = self.whole(node.inputs[0], ints(node.attributes, "axes"))
        wanted = self.shapes[node.output]
        if axes == (2, 3) and len(self.shapes[source]) == 4 and _order(wanted) == _order(self.shapes[source][:2]):
            pooled = self.before("GlobalAveragePool", [source], f"{node.output}.pool")
            self.emit("Reshape", [pooled], node.output, {"shape": wanted})
        else:
            self.keep(node)

    def whole(self, name: str, axes: Shape) -> tuple[str, Shape]:
        """The tensor whose mean along other axes is the same, as far back as can be seen."""
        while (maker := self.maker(name)) is not None:
            if maker.op_type == "Transpose":
                perm = ints(maker.attributes, "perm")
                axes = tuple(sorted(perm[axis] for axis in axes))
            elif maker.op_type == "ReduceMean" and self.uses[name] == 1:
                axes = _together(maker, axes, len(self.shapes[maker.inputs[0]]))
            elif (split := self.split(maker, axes)) is not None:
                axes = split
            else:
                break
            name = maker.inputs[0]
        return name, axes

    def split(self, maker: Node, axes: Shape) -> Shape | None:
        """Height and width, if a Reshape made the axis of the two."""
        if maker.op_type != "Reshape" or axes != (2,):
            return None
        image, rows = self.shapes[maker.inputs[0]], self.shapes[maker.output]
        flat = len(image) == 4 and rows == (*image[:2], math.prod(image[2:]))
        return (2, 3) if flat else None


def _together(inner: Node, axes: Shape, rank: int) -> Shape:
    """Axes of what `inner` reduced, and those that are reduced after it."""
    first = ints(inner.attributes, "axes")
    left = list(range(rank)) if integer(inner.attributes, "keepdims", 1) else [a for a in range(rank) if a not in first]
    return tuple(sorted({*first, *(left[axis] for axis in axes)}))


def _order(shape: Shape) -> Shape:
    """A shape without its ones: equal ones hold the same elements in the same order."""
    return tuple(n for n in shape if n != 1)
