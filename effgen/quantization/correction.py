"""Biases that make up for what rounding shifts.

What codes do to a layer's output is not noise alone: each channel has a mean that moves (Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721, section 4.2; with images instead of
batch norms' statistics). The quantised network runs layer by layer, each corrected before the next one sees it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from effgen.graph import Graph, Node, Weights
from effgen.quantization.watching import chunks, run_watched


def corrected_biases(
    network: tuple[Graph, Weights],
    quantised: tuple[Graph, Weights],
    layers: Collection[str],
    images: NDArray[np.float32],
) -> dict[str, NDArray[np.float32]]:
    """The biases of `layers`, by their output's name, of the quantised network; of `images` (N, C, H, W) as many are
    looked at as can be on their way at once. A bias that several layers share stays as it is."""
    means: dict[str, NDArray[np.float64]] = {}

    def remember(node: Node, outputs: list[Tensor]) -> list[Tensor]:
        if node.output in layers:
            means[node.output] = _mean(outputs)
        return outputs

    inputs = next(chunks(network[0], images))
    run_watched(*network, inputs, remember)
    graph, weights = quantised
    uses, biases = graph.uses(), dict[str, NDArray[np.float32]]()

    def correct(node: Node, outputs: list[Tensor]) -> list[Tensor]:
        shared = len(node.inputs) > 2 and uses[node.inputs[2]] > 1
        if node.output not in layers or shared:
            return outputs
        shift = (means[node.output] - _mean(outputs)).astype(np.float32)
        old = weights[node.inputs[2]] if len(node.inputs) > 2 else np.float32(0)
        biases[node.output] = old + shift
        by_channel = shift.reshape(1, -1, *[1] * (outputs[0].ndim - 2))
        return [output + outputs[0].new_tensor(by_channel) for output in outputs]

    run_watched(graph, weights, inputs, correct)
    return biases


def _mean(outputs: list[Tensor]) -> NDArray[np.float64]:
    """Of each channel, over all calls, images and places."""
    axes = [axis for axis in range(outputs[0].ndim) if axis != 1]
    means: NDArray[np.float64] = np.mean([output.double().mean(axes).numpy() for output in outputs], axis=0)
    return means
