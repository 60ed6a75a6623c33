"""An image that comes in with its channels last:

    f(Transpose(input))  of (n, h, w, c)     becomes     f(input)  of (n, c, h, w)

So every network takes its images in one layout, whoever exported it. The file's own is for whoever feeds the file.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Value, Weights
from effgen.graph.ops import ints

#: What makes (n, c, h, w) of (n, h, w, c), and back.
TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def channels_first(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph taking images channels first, if it begins by making them so."""
    name = graph.input.name
    readers = [node for node in graph.nodes if name in node.inputs]
    if not readers or name in graph.outputs or not all(_is_first(node) for node in readers):
        return graph, dict(weights)
    names = {node.output: name for node in readers}
    if names.keys() & set(graph.outputs):
        return graph, dict(weights)
    shape = tuple(graph.input.shape[axis] for axis in TO_FIRST)
    nodes = tuple(_renamed(node, names) for node in graph.nodes if node.output not in names)
    return replace(graph, input=Value(name, shape), nodes=nodes).verify(), dict(weights)


def _is_first(node: Node) -> bool:
    return node.op_type == "Transpose" and ints(node.attributes, "perm") == TO_FIRST


def _renamed(node: Node, names: dict[str, str]) -> Node:
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))
