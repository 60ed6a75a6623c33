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
    producers = {node.output: node for node in graph.nodes}
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    parameters, arrays = dict(graph.parameters), dict(weights)
    replaced: dict[str, Node] = {}
    dropped: set[str] = set()
    for norm in graph.nodes:
        conv = producers.get(norm.inputs[0])
        if conv is None or not _foldable(conv, norm, uses):
            continue
        bias = _fold_arrays(conv, norm, parameters, arrays)
        replaced[norm.output] = replace(conv, inputs=(*conv.inputs[:2], bias), output=norm.output)
        dropped.add(conv.output)
    nodes = tuple(replaced.get(node.output, node) for node in graph.nodes if node.output not in dropped)
    folded = replace(graph, nodes=nodes, parameters=parameters).verify()
    check_weights(folded, arrays)
    return folded, arrays


def _foldable(conv: Node, norm: Node, uses: Counter[str]) -> bool:
    """Whether `norm` normalises a convolution, and neither that nor any parameter is read by another node."""
    if (conv.op_type, norm.op_type) != ("Conv", "BatchNormalization"):
        return False
    return all(uses[name] == 1 for name in (conv.output, *conv.inputs[1:], *norm.inputs[1:]))


def _fold_arrays(conv: Node, norm: Node, parameters: dict[str, Parameter], arrays: dict[str, np.ndarray]) -> str:
    """Fold in place; returns the name of the new bias. Kernels are scaled along their output channels."""
    scale, shift, mean, var = (arrays[name].astype(np.float64) for name in norm.inputs[1:])
    factor = scale / np.sqrt(var + number(norm.attributes, "epsilon"))
    kernel = arrays[conv.inputs[1]]
    old_bias = arrays[conv.inputs[2]] if len(conv.inputs) == 3 else 0.0
    arrays[conv.inputs[1]] = (kernel * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
    bias = conv.inputs[1].removesuffix(".weight") + ".bias"
    for name in (*norm.inputs[1:], *conv.inputs[2:]):
        del parameters[name], arrays[name]
    parameters[bias] = Parameter(bias, (kernel.shape[0],), "bias")
    arrays[bias] = (shift + (old_bias - mean) * factor).astype(np.float32)
    return bias
