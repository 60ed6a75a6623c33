"""Fold inference batch norms into the convolutions before them.

    Conv(x, w) -> BatchNormalization      becomes      Conv(x, w * s, beta - mean * s),  s = gamma / sqrt(var + eps)

Folding is done in float64 and rounded once, so the folded network differs from the unfolded one by rounding only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from effgen.graph import Graph, Node, Parameter, Weights, check_weights
from effgen.ops import number


def fold_batchnorm(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph without any batch norm that follows a convolution read by nothing else, and its new weights.

    Parameters that several nodes share are left alone, and the norms that need them stay.
    """
    check_weights(graph, weights)
    arrays = dict(weights)
    folded, pairs = _folded(graph)
    for conv, norm in pairs:
        _fold_arrays(conv, norm, arrays)
    check_weights(folded, arrays)
    return folded, arrays


def folded_graph(graph: Graph) -> Graph:
    """The graph that `fold_batchnorm` gives, for those who need no weights."""
    return _folded(graph)[0]


def _folded(graph: Graph) -> tuple[Graph, list[tuple[Node, Node]]]:
    """The folded graph, and the pairs of convolution and norm that became one."""
    producers = {node.output: node for node in graph.nodes}
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    parameters = dict(graph.parameters)
    replaced: dict[str, Node] = {}
    pairs: list[tuple[Node, Node]] = []
    for norm in graph.nodes:
        conv = producers.get(norm.inputs[0])
        if conv is None or not _foldable(conv, norm, uses):
            continue
        pairs.append((conv, norm))
        bias = _bias_name(conv)
        channels = parameters[conv.inputs[1]].shape[0]
        for name in (*norm.inputs[1:], *conv.inputs[2:]):
            del parameters[name]
        parameters[bias] = Parameter(bias, (channels,), "bias")
        replaced[norm.output] = replace(conv, inputs=(*conv.inputs[:2], bias), output=norm.output)
    dropped = {conv.output for conv, _ in pairs}
    nodes = tuple(replaced.get(node.output, node) for node in graph.nodes if node.output not in dropped)
    return replace(graph, nodes=nodes, parameters=parameters).verify(), pairs


def _foldable(conv: Node, norm: Node, uses: Counter[str]) -> bool:
    """Whether `norm` normalises a convolution, and neither that nor any parameter is read by another node."""
    if (conv.op_type, norm.op_type) != ("Conv", "BatchNormalization"):
        return False
    return all(uses[name] == 1 for name in (conv.output, *conv.inputs[1:], *norm.inputs[1:]))


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
