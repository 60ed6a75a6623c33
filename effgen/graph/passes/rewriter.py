"""What passes share: going over a graph's nodes in order, putting others in their place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Parameter, Role, Weights
from effgen.graph.ops import OPS, Attributes, AttributeValue, Shape
from effgen.graph.passes.prune import prune


class Rewriter(ABC):
    """One pass. `visit` is given every node, its inputs named as they are called by then, and adds what stands for it.

    What is added must exist in the order in which it is added. `uses` says how often a tensor is read; it is never less
    than what is true.
    """

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph = graph
        self.parameters, self.weights = dict(graph.parameters), dict(weights)
        self.shapes: dict[str, Shape] = {name: value.shape for name, value in graph.values.items()}
        self.made: dict[str, Node] = {}
        self.uses = graph.uses()
        self._names: dict[str, str] = {}

    def run(self) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
        """The graph with everything in its place, and the weights that it still needs."""
        for node in self.graph.nodes:
            inputs = tuple(self._names.get(name, name) for name in node.inputs)
            self.visit(node if inputs == node.inputs else replace(node, inputs=inputs))
        rewritten = replace(self._with_outputs(), parameters=self.parameters)
        return prune(rewritten, self.weights)

    @abstractmethod
    def visit(self, node: Node) -> None:
        """Add `node`, or what computes the same: its output must be made, or be an alias."""

    # What a pass asks.

    def maker(self, name: str) -> Node | None:
        """The node that makes a tensor."""
        return self.made.get(name)

    def only(self, name: str, op_type: str | None = None) -> Node | None:
        """The node that makes a tensor which is read once, if it is an operator of this kind."""
        node = self.made.get(name) if self.uses[name] == 1 else None
        return node if node is not None and op_type in (None, node.op_type) else None

    def number(self, name: str) -> float | None:
        """A parameter that is one number."""
        array = self.weights.get(name)
        return float(array.item()) if array is not None and array.size == 1 else None

    def with_constant(self, node: Node) -> tuple[str, str] | None:
        """The data and the parameter of an operator that has one of each."""
        for data, other in (node.inputs, node.inputs[::-1]) if len(node.inputs) == 2 else ():
            if other in self.weights and data not in self.weights:
                return data, other
        return None

    # What it does.

    def keep(self, node: Node) -> None:
        """The node as it is."""
        self.made[node.output] = node
        self.shapes[node.output] = OPS[node.op_type].infer([self.shapes[name] for name in node.inputs], node.attributes)

    def emit(self, op_type: str, inputs: Sequence[str], output: str, attributes: Attributes | None = None) -> str:
        """A new node; its inputs count as read once more."""
        self.uses.update(inputs)
        self.keep(Node(op_type, tuple(inputs), output, dict(attributes or {})))
        return output

    def before(self, op_type: str, inputs: Sequence[str], output: str, **attributes: AttributeValue) -> str:
        """A new node for something like `output`, under a name of its own, read once."""
        name = self.emit(op_type, inputs, self.fresh(output), attributes)
        self.uses[name] = 1
        return name

    def alias(self, output: str, tensor: str) -> None:
        """`output` is the same as `tensor`."""
        self._names[output] = tensor
        self.uses[tensor] += self.uses[output]

    def parameter(self, name: str, array: NDArray[Any], role: Role) -> str:
        """A new parameter, under a name of its own."""
        name = self.fresh(name)
        self.weights[name] = np.ascontiguousarray(array, np.float32)
        self.parameters[name] = Parameter(name, self.weights[name].shape, role)
        self.shapes[name] = self.weights[name].shape
        return name

    def fresh(self, name: str) -> str:
        while name in self.shapes or name in self.parameters:
            name += "_"
        return name

    def _with_outputs(self) -> Graph:
        """The nodes; a tensor that stands for one of the graph's outputs takes over its name, or that output becomes
        the Identity of it, where the tensor is the input or an output of its own."""
        nodes, swap = list(self.made.values()), {}
        for output in self.graph.outputs:
            target = self._names.get(output, output)
            if target == output:
                continue
            if target in self.made and target not in swap and target not in self.graph.outputs:
                swap[target] = output
            else:
                nodes.append(Node("Identity", (target,), output))
        renamed = (
            replace(
                node,
                inputs=tuple(swap.get(name, name) for name in node.inputs),
                output=swap.get(node.output, node.output),
            )
            for node in nodes
        )
        return replace(self.graph, nodes=tuple(renamed))
