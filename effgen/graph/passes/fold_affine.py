"""Fold products and sums with one constant a channel into the convolutions and linear layers beside them.

    Concat of x's channels one by one, each times s + t      becomes      Add(Mul(x, s), t)
    Conv(x, w, b) -> Mul s, or Add t                         becomes      Conv(x, w * s, b * s), or Conv(x, w, b + t)
    Mul s -> Conv(x, w, b)                                   becomes      Conv(x, w * s, b)
    Add t -> Conv(x, w, b)  without padding                  becomes      Conv(x, w, b + sum of w * t)

Where there is padding, its zeros are not shifted: such a sum stays. Arithmetic is float64, rounded once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Parameter, Weights
from effgen.graph.ops import integer, ints
from effgen.graph.passes.prune import prune

_Vector: TypeAlias = NDArray[Any]


def fold_affine(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph without such products and sums, as far as nothing else reads what they are folded over."""
    folding = _Folding(graph, weights)
    return prune(folding.run(), folding.weights)


class _Folding:
    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph = graph
        self.shapes = {name: value.shape for name, value in graph.values.items()}
        self.parameters, self.weights = dict(graph.parameters), dict(weights)
        self.made: dict[str, Node] = {}
        self.uses = graph.uses()

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self.made[node.output] = node
            if node.op_type == "Concat" and node.attributes["axis"] == 1 and len(self.shapes[node.output]) == 4:
                self.join(node)
            elif node.op_type in ("Add", "Mul"):
                self.fold_after(node)
            elif node.op_type in ("Conv", "Gemm"):
                self.fold_before(node)
        return replace(self.graph, nodes=tuple(self.made.values()), parameters=self.parameters)

    # Constants after a convolution.

    def fold_after(self, node: Node) -> None:
        data, constant = self.affine(node)
        linear = self.only(data)
        if constant is None or linear is None or linear.op_type not in ("Conv", "Gemm"):
            return
        if self.shapes[data] != self.shapes[node.output] or not self.owns(linear):
            return
        if node.op_type == "Mul":
            self.change(linear, constant, 0.0)
        else:
            self.change(linear, 1.0, constant)
        self.made[node.output] = replace(self.made.pop(data), output=node.output)

    def change(self, linear: Node, scale: _Vector | float, shift: _Vector | float) -> None:
        """Kernel and bias for `linear * scale + shift`, one number an output channel each."""
        kernel = self.weights[linear.inputs[1]].astype(np.float64)
        outputs = kernel.shape[0]
        by_output = np.broadcast_to(np.asarray(scale), (outputs,)).reshape(-1, *([1] * (kernel.ndim - 1)))
        self.set(linear.inputs[1], kernel * by_output)
        self.set_bias(linear, self.bias(linear) * scale + shift)

    # Constants before a convolution.

    def fold_before(self, node: Node) -> None:
        while (found := self.only(node.inputs[0])) is not None:
            data, constant = self.affine(found)
            if constant is None or self.shapes[data] != self.shapes[found.output] or not self.owns(node):
                return
            if found.op_type == "Add" and any(ints(node.attributes, "pads", (0, 0, 0, 0))):
                return
            self.absorb(node, found.op_type, constant)
            del self.made[found.output]
            node = replace(self.made[node.output], inputs=(data, *self.made[node.output].inputs[1:]))
            self.made[node.output] = node

    def absorb(self, node: Node, op_type: str, constant: _Vector) -> None:
        kernel = self.weights[node.inputs[1]].astype(np.float64)
        groups = integer(node.attributes, "group", 1)
        grouped = kernel.reshape(groups, kernel.shape[0] // groups, kernel.shape[1], -1)
        channels = np.broadcast_to(constant, (groups * kernel.shape[1],)).reshape(groups, 1, -1, 1)
        if op_type == "Mul":
            self.set(node.inputs[1], (grouped * channels).reshape(kernel.shape))
        else:
            self.set_bias(node, self.bias(node) + (grouped * channels).sum((2, 3)).reshape(-1))

    # One affine function a channel, written out channel by channel.

    def join(self, concat: Node) -> None:
        parts = [self.chain(name) for name in concat.inputs]
        sources = {source for source, *_ in parts}
        if len(sources) != 1 or None in sources:
            return
        source = parts[0][0]
        assert source is not None
        if [channel for _, channel, *_ in parts] != list(range(self.shapes[source][1])):
            return
        scale, shift = (np.array([part[index] for part in parts]) for index in (2, 3))
        if len({part[2:] for part in parts}) == 1 and parts[0][2:] == (1.0, 0.0):
            return
        product = f"{concat.output}.scaled"
        del self.made[concat.output]
        shape = (1, len(parts), 1, 1)
        factors, terms = self.constant(f"{concat.output}.scale", scale), self.constant(f"{concat.output}.shift", shift)
        self.shapes[product], self.shapes[factors], self.shapes[terms] = self.shapes[concat.output], shape, shape
        self.made[product] = Node("Mul", (source, factors), product)
        self.made[concat.output] = Node("Add", (product, terms), concat.output)
        self.uses[product] += 1
        self.uses[source] += 1
        for name in (factors, terms):
            self.uses[name] += 1

    def chain(self, name: str) -> tuple[str | None, int, float, float]:
        """Source, channel, factor and summand of a tensor that is one channel of an image, scaled and shifted."""
        scale, shift = 1.0, 0.0
        while (node := self.only(name)) is not None:
            if node.op_type == "Slice":
                start, end = ints(node.attributes, "starts")[0], ints(node.attributes, "ends")[0]
                one = ints(node.attributes, "axes") == (1,) and end == start + 1
                return (node.inputs[0] if one else None), start, scale, shift
            name, constant = self.affine(node)
            if constant is None or constant.size != 1:
                break
            # What is found is applied before what was found so far.
            shift += scale * float(constant[0]) if node.op_type == "Add" else 0.0
            scale *= float(constant[0]) if node.op_type == "Mul" else 1.0
        return None, 0, scale, shift

    # What is asked and changed.

    def affine(self, node: Node) -> tuple[str, _Vector | None]:
        """The data of a sum or product with a constant, and that constant: one number, or one a channel."""
        if node.op_type not in ("Add", "Mul"):
            return node.inputs[0], None
        for data, other in (node.inputs, node.inputs[::-1]):
            array = self.weights.get(other)
            if array is None or data in self.weights:
                continue
            channels = array.shape[1] if array.ndim > 1 else 1
            return data, array.astype(np.float64).reshape(-1) if array.size == channels else None
        return node.inputs[0], None

    def only(self, name: str) -> Node | None:
        """The node that makes a tensor which is read once."""
        return self.made.get(name) if self.uses[name] == 1 else None

    def owns(self, linear: Node) -> bool:
        return all(self.uses[name] == 1 for name in linear.inputs[1:])

    def bias(self, linear: Node) -> _Vector:
        if len(linear.inputs) == 3:
            return self.weights[linear.inputs[2]].astype(np.float64)
        return np.zeros(self.weights[linear.inputs[1]].shape[0])

    def set(self, name: str, array: _Vector) -> None:
        self.weights[name] = array.astype(np.float32)

    def set_bias(self, linear: Node, bias: _Vector) -> None:
        """The new bias; where there was none the node in `made` is another one afterwards."""
        if len(linear.inputs) == 3:
            self.set(linear.inputs[2], bias)
            return
        name = self.fresh(linear.inputs[1].removesuffix(".weight") + ".bias")
        self.parameters[name] = Parameter(name, bias.shape, "bias")
        self.uses[name] += 1
        self.set(name, bias)
        self.made[linear.output] = replace(linear, inputs=(*linear.inputs, name))

    def constant(self, name: str, channels: _Vector) -> str:
        name = self.fresh(name)
        array = channels.astype(np.float32).reshape(1, -1, 1, 1)
        self.parameters[name] = Parameter(name, array.shape, "constant")
        self.weights[name] = array
        return name

    def fresh(self, name: str) -> str:
        while name in self.shapes or name in self.parameters:
            name += "_"
        return name
