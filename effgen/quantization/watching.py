"""A network run node by node by PyTorch, with somebody who sees every tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effgen.graph import Graph, Node, Weights
from effgen.graph.reference import GraphModule

#: Given a node and its outputs, one for each call of the network; what it returns goes on in their place.
See = Callable[[Node, list[Tensor]], list[Tensor]]

#: What calls that are on their way at once may keep: of each about three of its largest tensors.
_MOST_BYTES, _KEPT = 2**30, 3


def calls(graph: Graph, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The images (N, C, H, W) as calls of the network, each of its batch; what is left over is left out."""
    whole = len(images) // graph.batch * graph.batch
    return [images[first : first + graph.batch] for first in range(0, whole, graph.batch)]


def chunks(graph: Graph, images: NDArray[np.float32]) -> Iterator[list[NDArray[np.float32]]]:
    """The calls, as many at a time as memory has room for."""
    largest = max(graph.values[node.output].nbytes for node in graph.nodes)
    found, size = calls(graph, images), max(1, _MOST_BYTES // (_KEPT * largest))
    return (found[first : first + size] for first in range(0, len(found), size))


def run_watched(graph: Graph, weights: Weights, inputs: list[NDArray[np.float32]], see: See) -> list[Tensor]:
    """The first output of each call; every node runs for all calls before the next one does."""
    module = GraphModule(graph, weights).eval()
    constants, left = module.tensors(), graph.uses()
    values: dict[str, list[Tensor]] = {graph.input.name: [torch.tensor(image) for image in inputs]}
    with torch.inference_mode():
        for node in graph.nodes:
            operands = [[constants[name]] * len(inputs) if name in constants else values[name] for name in node.inputs]
            values[node.output] = see(node, [module.run(node, *each) for each in zip(*operands, strict=True)])
            left.subtract(node.inputs)
            for name in node.inputs:
                if left[name] == 0:
                    values.pop(name, None)
    return values[graph.outputs[0]]


def answers(graph: Graph, weights: Weights, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first output for all images, flat: (N, numbers)."""
    found = [run_watched(graph, weights, chunk, lambda node, outputs: outputs) for chunk in chunks(graph, images)]
    return np.concatenate([output.numpy().reshape(graph.batch, -1) for chunk in found for output in chunk])
