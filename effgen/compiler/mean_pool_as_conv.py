"""Means of windows as depthwise convolutions, for machines that have kernels for these and none for those:

    AveragePool(x)      becomes      Mul(Conv(x, ones), 1 / pixels that count), group = channels

Where every window counts as many pixels, the kernel holds the quotient and there is no product.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effgen.compiler.calls import pool2d_of
from effgen.graph import Graph, Node, Parameter, Weights


def mean_pool_as_conv(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph without AveragePool, and its weights with the kernels that take their place."""
    parameters, arrays, nodes = dict(graph.parameters), dict(weights), []
    for node in graph.nodes:
        if node.op_type != "AveragePool":
            nodes.append(node)
            continue
        shape = graph.values[node.inputs[0]].shape
        counts = pool2d_of(node, shape).counts
        uniform = bool((counts == counts[0, 0]).all())
        kernel_shape = node.attributes["kernel_shape"]
        assert isinstance(kernel_shape, tuple)
        value = 1 / counts[0, 0] if uniform else 1.0
        arrays[f"{node.output}.ones"] = np.full((shape[1], 1, *kernel_shape), value, np.float32)
        parameters[f"{node.output}.ones"] = _parameter(f"{node.output}.ones", arrays)
        attributes = {"group": shape[1], **{key: node.attributes[key] for key in ("pads", "strides")}}
        sums = node.output if uniform else f"{node.output}.sums"
        nodes.append(Node("Conv", (node.inputs[0], f"{node.output}.ones"), sums, attributes, node.scope))
        if not uniform:
            arrays[f"{node.output}.share"] = (1 / counts[None, None]).astype(np.float32)
            parameters[f"{node.output}.share"] = _parameter(f"{node.output}.share", arrays)
            nodes.append(Node("Mul", (sums, f"{node.output}.share"), node.output, {}, node.scope))
    return replace(graph, nodes=tuple(nodes), parameters=parameters).verify(), arrays


def _parameter(name: str, arrays: dict[str, NDArray[np.float32]]) -> Parameter:
    return Parameter(name, arrays[name].shape, "constant")
