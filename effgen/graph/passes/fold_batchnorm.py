"""Fold inference batch norms into the convolutions before them.

    Conv(x, w) -> BatchNormalization      becomes      Conv(x, w * s, beta - mean * s),  s = gamma / sqrt(var + eps)

also where several convolutions are joined before the norm (`norm_before_concat`). Equal ones that share an image out
become one then (`join_groups`).

Folding is done in float64 and rounded once, so the folded network differs from the unfolded one by rounding only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from effgen.graph import Graph, Node, Parameter, Weights, check_weights
from effgen.graph.ops import number
from effgen.graph.passes.join_groups import join_groups
from effgen.graph.passes.norm_before_concat import norm_before_concat


def fold_batchnorm(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph without any batch norm that follows a convolution read by nothing else, and its new weights.

    Parameters that several nodes share are left alone, and the norms that need them stay.
    """
    check_weights(graph, weights)
    graph, slices = norm_before_concat(graph)
    arrays = {name: array for name, array in weights.items() if name in graph.parameters}
    arrays |= {name: weights[whole][first:last] for name, (whole, first, last) in slices.items()}
    for conv, norm in _foldable_pairs(graph):
        _fold_arrays(conv, norm, arrays)
    folded, joined = join_groups(_without_norms(graph))
    for name, parts in joined.items():
        arrays[name] = np.concatenate([arrays.pop(part) for part in parts])
    check_weights(folded, arrays)
    return folded, arrays


def folded_graph(graph: Graph) -> Graph:
    """The graph that `fold_batchnorm` gives, of a network without weights yet."""
    return join_groups(_without_norms(norm_before_concat(graph)[0]))[0]


def _without_norms(graph: Graph) -> Graph:
    """The graph without the norms that are folded."""
    parameters = dict(graph.parameters)
    replaced: dict[str, Node] = {}
    dropped: set[str] = set()
    for conv, norm in _foldable_pairs(graph):
        bias = _bias_name(conv)
        for name in (*norm.inputs[1:], *conv.inputs[2:]):
            del parameters[name]
        parameters[bias] = Parameter(bias, graph.parameters[conv.inputs[1]].shape[:1], "bias")
        replaced[norm.output] = replace(conv, inputs=(*conv.inputs[:2], bias), output=norm.output)
        dropped.add(conv.output)
    nodes = tuple(replaced.get(node.output, node) for node in graph.nodes if node.output not in dropped)
    return replace(graph, nodes=nodes, parameters=parameters).verify()


def _foldable_pairs(graph: Graph) -> list[tuple[Node, Node]]:
    """Convolutions, each with its batch norm, where neither the tensor between nor a parameter is read elsewhere."""
    producers = {node.output: node for node in graph.nodes}
    uses = graph.uses()
    pairs = ((producers.get(norm.inputs[0]), norm) for norm in graph.nodes if norm.op_type == "BatchNormalization")
    return [(conv, norm) for conv, norm in pairs if conv is not None and _foldable(conv, norm, uses)]


def _foldable(conv: Node, norm: Node, uses: Counter[str]) -> bool:
    read_once = (conv.output, *conv.inputs[1:], *norm.inputs[1:])
    return conv.op_type == "Conv" and all(uses[name] == 1 for name in read_once)


def _bias_name(conv: Node) -> str:
    return conv.inputs[1].removesuffix(".weight") + ".bias"


def _fold_arrays(conv: Node, norm: Node, arrays: dict[str, np.ndarray]) -> None:
    """Fold in place. Kernels are scaled along their output channels."""
    scale, shift, mean, var = (arrays[name].astype(np.float64) for name in norm.inputs[1:])
    factor = scale / np.sqrt(var + number(norm.attributes, "epsilon"))
    old_bias = arrays[conv.inputs[2]] if len(conv.inputs) == 3 else 0.0
    arrays[conv.inputs[1]] = (arrays[conv.inputs[1]] * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
    for name in (*norm.inputs[1:], *conv.inputs[2:]):
        del arrays[name]
    arrays[_bias_name(conv)] = (shift + (old_bias - mean) * factor).astype(np.float32)
