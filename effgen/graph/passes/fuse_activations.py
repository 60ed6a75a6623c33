"""Activations that a file says in several operators:

    Mul(x, Sigmoid(x))                                  becomes      Swish(x)
    Mul(x, HardSigmoid(x))   with alpha 1/6, beta 1/2   becomes      HardSwish(x)
    Mul(Clip(Add(x, 3), 0, 6), 1/6)                     becomes      HardSigmoid(x)
    Mul(Mul(x, Clip(Add(x, 3), 0, 6)), 1/6)             becomes      HardSwish(x)

Each where nothing else reads what is between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Weights
from effgen.graph.ops import is_sixth, is_usual_hard_sigmoid
from effgen.graph.passes.prune import prune


def fuse_activations(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph with these activations in one node each, and its weights without their constants."""
    return prune(_ActivationFusion(graph, weights).run(), weights)


class _ActivationFusion:
    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph, self.weights = graph, weights
        self.made: dict[str, Node] = {}
        self.uses = graph.uses()

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self.made[node.output] = self.fused(node) if node.op_type == "Mul" else node
        return replace(self.graph, nodes=tuple(self.made.values()))

    def fused(self, node: Node) -> Node:
        for data, other in (node.inputs, node.inputs[::-1]):
            inner = self.inner(other)
            if inner is None:
                continue
            if inner.op_type == "Sigmoid" and inner.inputs[0] == data:
                return Node("Swish", (data,), node.output)
            if inner.op_type == "HardSigmoid" and is_usual_hard_sigmoid(inner.attributes) and inner.inputs[0] == data:
                return Node("HardSwish", (data,), node.output)
            factor = self.number(data)
            if factor is not None and is_sixth(factor):
                return self.sixth(inner, node.output) or node
        return node

    def sixth(self, inner: Node, output: str) -> Node | None:
        """What `inner` / 6 is."""
        if (data := self.shifted_clip(inner)) is not None:
            return Node("HardSigmoid", (data,), output, {"alpha": 1 / 6, "beta": 0.5})
        if inner.op_type == "Mul":
            for data, other in (inner.inputs, inner.inputs[::-1]):
                clip = self.inner(other)
                if clip is not None and self.shifted_clip(clip) == data:
                    return Node("HardSwish", (data,), output)
        return None

    def shifted_clip(self, node: Node) -> str | None:
        """The x of Clip(x + 3, 0, 6)."""
        if node.op_type != "Clip" or (node.attributes["min"], node.attributes["max"]) != (0.0, 6.0):
            return None
        add = self.inner(node.inputs[0])
        if add is None or add.op_type != "Add":
            return None
        return next((data for data, other in _both_ways(add) if self.number(other) == 3.0), None)

    def inner(self, name: str) -> Node | None:
        """The node that makes a tensor which is read once."""
        return self.made.get(name) if self.uses[name] == 1 else None

    def number(self, name: str) -> float | None:
        """A parameter that is one number."""
        array = self.weights.get(name)
        return float(array.item()) if array is not None and array.size == 1 else None


def _both_ways(node: Node) -> Iterator[tuple[str, str]]:
    yield node.inputs[0], node.inputs[1]
    yield node.inputs[1], node.inputs[0]
