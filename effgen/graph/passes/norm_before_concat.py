"""Take batch norms behind joined convolutions to each of them, where they fold away.

    Concat(Conv a, Conv b) -> BatchNormalization     becomes     Concat(Conv a -> norm of its channels, Conv b -> ...)

MixNets join convolutions of several kernel sizes and normalise what they joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from effgen.graph import Graph, Node, Parameter

#: New parameters: the old one that each is a slice of, and where the slice begins and ends.
Slices = Mapping[str, tuple[str, int, int]]


def norm_before_concat(graph: Graph) -> tuple[Graph, Slices]:
    """The graph with such norms taken apart, and what their parameters are made of."""
    producers = {node.output: node for node in graph.nodes}
    uses = graph.uses()
    nodes: dict[str, list[Node]] = {node.output: [node] for node in graph.nodes}
    parameters, slices = dict(graph.parameters), dict[str, tuple[str, int, int]]()
    for norm in graph.nodes:
        concat = producers.get(norm.inputs[0])
        if norm.op_type != "BatchNormalization" or concat is None or concat.op_type != "Concat":
            continue
        parts = [producers.get(name) for name in concat.inputs]
        read_once = (concat.output, *concat.inputs, *norm.inputs[1:])
        if any(part is None or part.op_type != "Conv" for part in parts) or any(uses[name] != 1 for name in read_once):
            continue
        del nodes[concat.output]
        norms = []
        for index, (part, first, last) in enumerate(_cuts(concat, graph)):
            names = {f"{name}@{first}:{last}": name for name in norm.inputs[1:]}
            slices |= {name: (whole, first, last) for name, whole in names.items()}
            parameters |= {n: Parameter(n, (last - first,), graph.parameters[whole].role) for n, whole in names.items()}
            norms.append(replace(norm, inputs=(part, *names), output=f"{norm.output}@{index}"))
        for name in norm.inputs[1:]:
            del parameters[name]
        nodes[norm.output] = [*norms, replace(concat, inputs=tuple(n.output for n in norms), output=norm.output)]
    flat = tuple(node for group in nodes.values() for node in group)
    return replace(graph, nodes=flat, parameters=parameters).verify(), slices


def _cuts(concat: Node, graph: Graph) -> list[tuple[str, int, int]]:
    """Each input, and where its channels begin and end in the output."""
    found, first = [], 0
    for part in concat.inputs:
        last = first + graph.values[part].shape[1]
        found.append((part, first, last))
        first = last
    return found
