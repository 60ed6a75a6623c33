"""A network and some images: the same network with codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effgen.errors import BuildError
from effgen.graph import Graph, Node, Weights
from effgen.graph.codes import Grid
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.quantization.correction import corrected_biases
from effgen.quantization.places import Place, places, residuals
from effgen.quantization.ranges import Extent, Histogram, best_grid, bins
from effgen.quantization.rewriting import Grids, with_biases, with_codes
from effgen.quantization.watching import answers, chunks, run_watched
from effgen.quantization.weights import weight_grid
from effgen.words import OnPhase

#: Images by which layers are ordered, one network each; and images by which biases are corrected, at most.
_TO_ORDER, _TO_CORRECT = 4, 16


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer that may compute with codes. `error`: relative L2 of the network's output where this layer alone does;
    `kept`: it stays in float32 for that; `input`: the codes of what it reads."""

    name: str
    error: float
    kept: bool
    input: Grid


@dataclass(frozen=True)
class Quantization:
    """The network with codes, its layers in order, and how far it is from the float32 one on the images it was made by:
    relative L2 of the first output, and of a classifier the share of images whose best class is the same."""

    graph: Graph
    weights: Weights
    layers: tuple[QuantizedLayer, ...]
    images: int
    rel_l2: float
    agreement: float | None


def quantize(
    graph: Graph,
    weights: Weights,
    images: NDArray[np.float32],
    keep_float: Sequence[str] = (),
    max_loss: float | None = None,
    on_phase: OnPhase = lambda text: None,
) -> Quantization:
    """The network with codes where `effgen.quantization.places` has them; batch norms are folded.

    `images` (N, C, H, W), prepared as the network takes them; `keep_float`: patterns of layers' names; `max_loss`: as
    few layers more stay in float32 as it takes for a relative L2 of the output of at most this. Raises BuildError where
    images are of another shape or no numbers, a pattern matches nothing, or nothing in the network can be codes.
    """
    _check_images(graph, images)
    graph, weights = fold_batchnorm(graph, weights)
    found = places(graph, keep_float)
    if not found:
        raise BuildError(f"{graph.name}: no layer can compute with codes: expected convolutions behind the first one")
    on_phase(f"observe {len(images)} images")
    network = _Observed(graph, weights, images, found)
    on_phase(f"order {len(found)} layers by the error that each brings")
    expected = answers(graph, weights, images)
    errors = network.errors(expected)
    kept = set[str]()
    while True:
        on_phase(f"quantise {len(found) - len(kept)} layers, correct their biases")
        quantised = network.quantised([place for place in found if place.layer not in kept], correct=True)
        answer = answers(*quantised, images)
        rel_l2 = _relative(answer, expected)
        if max_loss is None or rel_l2 <= max_loss or len(kept) == len(found):
            break
        kept |= _worst(errors, kept, rel_l2, max_loss)
    layers = (QuantizedLayer(p.name, errors[p.layer], p.layer in kept, network.grids[p.tensors[0]]) for p in found)
    agreement = None if graph.classes is None else float(np.mean(answer.argmax(1) == expected.argmax(1)))
    return Quantization(*quantised, tuple(layers), len(images), rel_l2, agreement)


def _worst(errors: Mapping[str, float], kept: set[str], rel_l2: float, max_loss: float) -> set[str]:
    """The next layers to be kept: as if errors were independent, so many that what is left is within the loss; one at
    least."""
    order = sorted((name for name in errors if name not in kept), key=lambda name: -errors[name])
    squares = np.array([errors[name] ** 2 for name in order])
    total = max(float(squares.sum()), 1e-30)
    left = rel_l2**2 * (1 - np.cumsum(squares) / total)
    count = 1 + int(np.searchsorted(-left, -(max_loss**2)))
    return set(order[: min(count, len(order))])


class _Observed:
    """What the images showed of a network: the codes of every tensor that may need some."""

    def __init__(self, graph: Graph, weights: Weights, images: NDArray[np.float32], found: Sequence[Place]) -> None:
        self.graph, self.weights, self.images = graph, weights, images
        self.places = found
        added_to = residuals(graph, [place.layer for place in found])
        wanted = dict.fromkeys([name for place in found for name in place.tensors] + added_to)
        self.grids = {name: best_grid(seen) for name, seen in _histograms(graph, weights, images, list(wanted)).items()}

    def errors(self, expected: NDArray[np.float32]) -> dict[str, float]:
        """By layer: how far the output is where it alone computes with codes."""
        few = self.images[: max(self.graph.batch, _TO_ORDER // self.graph.batch * self.graph.batch)]
        found = {}
        for place in self.places:
            answer = answers(*self.quantised([place], correct=False), few)
            found[place.layer] = _relative(answer, expected[: len(answer)])
        return found

    def quantised(self, chosen: Sequence[Place], correct: bool) -> tuple[Graph, Weights]:
        """The network in which these layers compute with codes, their biases corrected on request."""
        layers = {place.layer for place in chosen}
        nodes = {node.output: node for node in self.graph.nodes if node.output in layers}
        tensors = dict.fromkeys(name for place in chosen for name in place.tensors)
        tensors |= dict.fromkeys(residuals(self.graph, layers))
        of_weights = {nodes[p.layer].inputs[1]: self._weight_grid(nodes[p.layer], p) for p in chosen}
        grids = Grids({name: self.grids[name] for name in tensors}, of_weights)
        made = with_codes(self.graph, self.weights, grids)
        if not correct:
            return made
        few = self.images[:_TO_CORRECT] if self.graph.batch <= _TO_CORRECT else self.images[: self.graph.batch]
        return with_biases(*made, corrected_biases((self.graph, self.weights), made, layers, few))

    def _weight_grid(self, node: Node, place: Place) -> Grid:
        bias = self.weights[node.inputs[2]] if len(node.inputs) > 2 else None
        return weight_grid(self.weights[node.inputs[1]], bias, self.grids[place.tensors[0]].scale[0])


def _check_images(graph: Graph, images: NDArray[np.float32]) -> None:
    if images.ndim != 4 or images.shape[1:] != graph.input.shape[1:] or images.dtype != np.float32:
        expected = "x".join(map(str, graph.input.shape[1:]))
        raise BuildError(
            f"calibration images: {images.dtype.name} of shape {images.shape}: expected float32 (N, {expected})"
        )
    if len(images) < graph.batch:
        raise BuildError(f"calibration images: {len(images)}: expected at least {graph.batch}, the batch")
    if not np.isfinite(images).all():
        raise BuildError("calibration images: hold NaN or infinity: expected numbers")


def _histograms(
    graph: Graph, weights: Weights, images: NDArray[np.float32], wanted: Sequence[str]
) -> dict[str, Histogram]:
    """Of each tensor, in two passes: how far its numbers reach, then how often each is there."""
    extents = {name: Extent() for name in wanted}

    def reach(node: Node, outputs: list[Tensor]) -> list[Tensor]:
        for output in outputs if node.output in extents else ():
            extents[node.output].see(float(output.min()), float(output.max()))
        return outputs

    for chunk in chunks(graph, images):
        run_watched(graph, weights, chunk, reach)
    found = {name: Histogram(extent) for name, extent in extents.items()}

    def count(node: Node, outputs: list[Tensor]) -> list[Tensor]:
        for output in outputs if node.output in found else ():
            extent = found[node.output].extent
            found[node.output].see(torch.histc(output, bins(), extent.low, extent.high).double().numpy())
        return outputs

    for chunk in chunks(graph, images):
        run_watched(graph, weights, chunk, count)
    return found


def _relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Relative L2 of all numbers together, in float64."""
    difference, norm = (np.linalg.norm(each.astype(np.float64)) for each in (found - expected, expected))
    return float(difference / norm) if norm else float(difference > 0)
