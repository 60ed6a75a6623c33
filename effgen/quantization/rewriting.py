"""The graph of a quantised network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Parameter, Weights
from effgen.graph.codes import Grid
from effgen.graph.ops import AttributeValue
from effgen.quantization.weights import on_grid

#: What reads the numbers and not their codes: the kernel that makes an image sums it up before it is rounded.
_UNROUNDED = ("GlobalAveragePool",)


@dataclass(frozen=True)
class Grids:
    """The codes of tensors, by their name, and of layers' weights, by the parameter's."""

    tensors: Mapping[str, Grid]
    weights: Mapping[str, Grid]


def with_codes(graph: Graph, weights: Weights, grids: Grids) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph in which `grids.tensors` are rounded where they are read, and weights are those of their codes."""
    names: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        rounded = {} if node.op_type in _UNROUNDED else names
        nodes.append(replace(node, inputs=tuple(rounded.get(name, name) for name in node.inputs)))
        if node.output in grids.tensors:
            grid = grids.tensors[node.output]
            codes, back = f"{node.output}.codes", f"{node.output}.rounded"
            nodes.append(Node("QuantizeLinear", (node.output,), codes, attributes_of(grid), node.scope))
            nodes.append(Node("DequantizeLinear", (codes,), back, attributes_of(grid), node.scope))
            names[node.output] = back
    parameters = dict(graph.parameters)
    arrays = dict(weights)
    for name, grid in grids.weights.items():
        arrays[name] = on_grid(arrays[name], grid)
        parameters[name] = replace(parameters[name], grid=grid)
    return replace(graph, nodes=tuple(nodes), parameters=parameters).verify(), arrays


def with_biases(
    graph: Graph, weights: Weights, biases: Mapping[str, NDArray[np.float32]]
) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph in which layers, by their output's name, have these biases; one that had none gets it."""
    parameters, arrays, nodes = dict(graph.parameters), dict(weights), []
    for node in graph.nodes:
        bias = biases.get(node.output)
        if bias is not None:
            name = node.inputs[2] if len(node.inputs) > 2 else f"{node.output}.bias"
            parameters[name] = Parameter(name, bias.shape, "bias")
            arrays[name] = bias
            node = replace(node, inputs=(*node.inputs[:2], name))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), parameters=parameters).verify(), arrays


def attributes_of(grid: Grid) -> dict[str, AttributeValue]:
    """Of a QuantizeLinear or DequantizeLinear."""
    return {"scale": grid.scale, "zero_point": grid.zero_point, "axis": grid.axis, "type": grid.type}
