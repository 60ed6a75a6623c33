"""Moves that undo each other, or that one operator says:

    Reshape(Reshape(x)), Reshape(Flatten(x))              becomes      Reshape(x), or x where the shape is x's
    Reshape(x) to rows of features                        becomes      Flatten(x)
    Reshape(Transpose(Reshape(x)))  channels by groups    becomes      ChannelShuffle(x)
    Transpose(Transpose(x))                               becomes      Transpose(x), or x
    Transpose(f(x)) of the network's own input            becomes      f(Transpose(x)),  f element by element
    f(Transpose(x)), f(Transpose(x), Transpose(y))        becomes      Transpose(f(x)), Transpose(f(x, y))
    f(x, Expand(y))  where x is as large                  becomes      f(x, y)
    f(Reshape(x))  of a linear layer's rows               becomes      Reshape(f(x))

A Transpose of an image costs nothing where it is compiled, but it stands between what could be one kernel.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Weights
from effgen.graph.ops import BINARY, POINTWISE, Shape, ints
from effgen.graph.passes.rewriter import Rewriter

#: The Transpose of a channel shuffle: (batch, groups, channels of each, height, width).
_SHUFFLED = (0, 2, 1, 3, 4)


def simplify_moves(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph with as few moves as possible."""
    return _Moves(graph, weights).run()


class _Moves(Rewriter):
    def visit(self, node: Node) -> None:
        if node.op_type in ("Reshape", "Flatten"):
            self.reshape(node)
        elif node.op_type == "Transpose":
            self.transpose(node)
        elif node.op_type in POINTWISE:
            self.pointwise(node)
        elif node.op_type in BINARY or node.op_type == "PRelu":
            self.binary(self.unexpanded(node))
        else:
            self.keep(node)

    # Reshapes.

    def reshape(self, node: Node) -> None:
        wanted, source = self.shapes[node.output], node.inputs[0]
        while (maker := self.maker(source)) is not None and maker.op_type in ("Reshape", "Flatten"):
            source = maker.inputs[0]
        shape = self.shapes[source]
        if shape == wanted:
            self.alias(node.output, source)
        elif (shuffled := self.shuffle(source, wanted)) is not None:
            self.keep(replace(shuffled, output=node.output))
        elif len(shape) > 2 and wanted == (shape[0], math.prod(shape[1:])):
            self.keep(replace(node, op_type="Flatten", inputs=(source,), attributes={"axis": 1}))
        else:
            self.keep(replace(node, op_type="Reshape", inputs=(source,), attributes={"shape": wanted}))

    def shuffle(self, swapped: str, wanted: Shape) -> Node | None:
        """The ChannelShuffle whose Transpose `swapped` is."""
        transpose = self.maker(swapped)
        if transpose is None or transpose.op_type != "Transpose" or ints(transpose.attributes, "perm") != _SHUFFLED:
            return None
        split = self.maker(transpose.inputs[0])
        if split is None or split.op_type != "Reshape" or self.shapes[split.inputs[0]] != wanted or len(wanted) != 4:
            return None
        n, groups, _, h, w = self.shapes[split.output]
        if (n, h, w) != (wanted[0], *wanted[2:]):
            return None
        return Node("ChannelShuffle", split.inputs, swapped, {"group": groups})

    # Transposes.

    def transpose(self, node: Node) -> None:
        perm, source = ints(node.attributes, "perm"), node.inputs[0]
        while (maker := self.maker(source)) is not None and maker.op_type == "Transpose":
            inner = ints(maker.attributes, "perm")
            perm, source = tuple(inner[axis] for axis in perm), maker.inputs[0]
        if perm == tuple(range(len(perm))):
            self.alias(node.output, source)
            return
        self.keep(replace(node, inputs=(source,), attributes={"perm": perm}))
        if self.is_of_input(source):
            self.hoist(node.output)

    def is_of_input(self, name: str) -> bool:
        """Whether a tensor is the network's input changed element by element, by constants alone."""
        changed = False
        while (maker := self.only(name)) is not None:
            pair = self.with_constant(maker) if maker.op_type in BINARY else None
            if maker.op_type not in POINTWISE and pair is None:
                return False
            name, changed = pair[0] if pair else maker.inputs[0], True
        return changed and name == self.graph.input.name

    def hoist(self, output: str) -> None:
        """The chain from the input to the Transpose `output`, which begins with it afterwards."""
        transpose = self.made.pop(output)
        perm, chain, name = ints(transpose.attributes, "perm"), [], transpose.inputs[0]
        while (maker := self.maker(name)) is not None:
            chain.append(maker)
            pair = self.with_constant(maker) if maker.op_type in BINARY else None
            name = pair[0] if pair else maker.inputs[0]
        name = self.before("Transpose", [name], f"{output}.image", perm=perm)
        for index, maker in enumerate(reversed(chain)):
            last = index == len(chain) - 1
            inputs = [self.turned(each, perm) if each in self.weights else name for each in maker.inputs]
            if last:
                self.keep(Node(maker.op_type, tuple(inputs), output, maker.attributes))
            else:
                name = self.before(maker.op_type, inputs, maker.output, **maker.attributes)

    def turned(self, name: str, perm: Shape) -> str:
        """A constant with its axes in another order."""
        return self.parameter(f"{name}.turned", self.weights[name].transpose(perm), "constant")

    # What goes through both.

    def pointwise(self, node: Node) -> None:
        maker = self.only(node.inputs[0])
        if maker is not None and (self.may_sink(maker) or self.is_rows(maker)):
            inner = self.before(node.op_type, maker.inputs, f"{node.output}.moved", **node.attributes)
            self.keep(replace(maker, inputs=(inner,), output=node.output))
        else:
            self.keep(node)

    def may_sink(self, maker: Node) -> bool:
        """Whether a Transpose may go behind what reads it: that of the network's input stays where it is."""
        return maker.op_type == "Transpose" and maker.inputs[0] != self.graph.input.name

    def is_rows(self, maker: Node) -> bool:
        """Whether a Reshape only splits a linear layer's rows."""
        if maker.op_type != "Reshape":
            return False
        rows, whole = self.shapes[maker.inputs[0]], self.shapes[maker.output]
        return len(rows) == 2 and len(whole) > 2 and whole[-1] == rows[-1]

    def binary(self, node: Node) -> None:
        pair = self.with_constant(node)
        if pair is not None:
            self.with_number(node, *pair)
            return
        makers = [self.maker(name) for name in node.inputs]
        first, second = makers
        if (
            first is not None
            and second is not None
            and first.op_type == second.op_type == "Transpose"
            and first.attributes == second.attributes
            and len({self.shapes[name] for name in node.inputs}) == 1
        ):
            inputs = (first.inputs[0], second.inputs[0])
            inner = self.before(node.op_type, inputs, f"{node.output}.moved", **node.attributes)
            self.keep(replace(first, inputs=(inner,), output=node.output))
        else:
            self.keep(node)

    def with_number(self, node: Node, data: str, constant: str) -> None:
        maker = self.only(data)
        if maker is None or self.shapes[data] != self.shapes[node.output]:
            self.keep(node)
            return
        if self.may_sink(maker):
            perm = ints(maker.attributes, "perm")
            moved = self.turned(constant, tuple(perm.index(axis) for axis in range(len(perm))))
        elif self.is_rows(maker) and self.weights[constant].size == self.shapes[constant][-1]:
            moved = self.parameter(f"{constant}.row", self.weights[constant].reshape(1, -1), "constant")
        else:
            self.keep(node)
            return
        inputs = [moved if name == constant else maker.inputs[0] for name in node.inputs]
        inner = self.before(node.op_type, inputs, f"{node.output}.moved", **node.attributes)
        self.keep(replace(maker, inputs=(inner,), output=node.output))

    def unexpanded(self, node: Node) -> Node:
        """The node reading what was expanded, where the other operand is as large."""
        inputs = list(node.inputs)
        for index, name in enumerate(inputs):
            maker = self.maker(name)
            if maker is None or maker.op_type != "Expand" or (node.op_type == "PRelu" and index == 0):
                continue
            other = self.shapes[inputs[1 - index]]
            small = self.shapes[maker.inputs[0]]
            if tuple(map(max, small, other)) == self.shapes[node.output]:
                inputs[index] = maker.inputs[0]
        return replace(node, inputs=tuple(inputs))
