"""Leave out what no output depends on: a second classifier for training, weights that were folded away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Weights


def prune(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph without nodes and parameters that its outputs do not need, verified."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in wanted:
            kept.append(node)
            wanted.update(node.inputs)
    parameters = {name: parameter for name, parameter in graph.parameters.items() if name in wanted}
    pruned = replace(graph, nodes=tuple(reversed(kept)), parameters=parameters).verify()
    return pruned, {name: weights[name] for name in parameters}
