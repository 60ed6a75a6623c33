"""Which layers of a network compute with codes, and which of its tensors become codes for them.

What stays in float32 whatever is asked for: the layer that reads the image (of three channels: nothing is gained, and
all that follows would suffer), grouped and depthwise convolutions (few multiply-adds; a depthwise one mostly reads an
image that is never written), and the layers that make a gate of squeeze-excite (a few numbers, which scale channels).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from effgen.errors import BuildError
from effgen.graph import Graph, Node
from effgen.graph.ops import integer

#: Operators with weights that can be codes.
_LAYERS = ("Conv", "Gemm")


@dataclass(frozen=True)
class Place:
    """A layer, by its output, and the tensors that are codes for its sake: the one that it reads, and what that is made
    of where it is kept in memory (an image that a gate scales). `name`: what its weight is called, for people."""

    layer: str
    name: str
    tensors: tuple[str, ...]


def places(graph: Graph, keep_float: Sequence[str] = ()) -> list[Place]:
    """Of all layers that may compute with codes, in order, but those whose name matches a pattern of `keep_float`.

    Raises BuildError for a pattern that no such layer matches.
    """
    gates, makers = _gate_layers(graph), {node.output: node for node in graph.nodes}
    found = [
        Place(node.output, node.inputs[1].removesuffix(".weight"), _tensors(graph, makers, node))
        for node in graph.nodes
        if _may(graph, node) and node.output not in gates
    ]
    for pattern in keep_float:
        if not any(fnmatchcase(place.name, pattern) for place in found):
            names = ", ".join(place.name for place in found[:3])
            raise BuildError(f"--keep-float {pattern}: matches no layer that would become int8; they are {names}, ...")
    return [place for place in found if not any(fnmatchcase(place.name, pattern) for pattern in keep_float)]


def residuals(graph: Graph, layers: Iterable[str]) -> list[str]:
    """Tensors that are kept in memory until a layer of codes adds its output to them."""
    ours, order = set(layers), {node.output: index for index, node in enumerate(graph.nodes)}
    found = []
    for node in graph.nodes:
        if node.op_type != "Add" or any(name in graph.parameters for name in node.inputs):
            continue
        earlier, later = sorted(node.inputs, key=lambda name: order.get(name, -1))
        if later in ours and earlier in order and graph.values[earlier].shape == graph.values[later].shape:
            found.append(earlier)
    return list(dict.fromkeys(found))


def _may(graph: Graph, node: Node) -> bool:
    if node.op_type not in _LAYERS or node.inputs[0] == graph.input.name:
        return False
    return integer(node.attributes, "group", 1) == 1 and node.inputs[1] in graph.parameters


def _tensors(graph: Graph, makers: dict[str, Node], layer: Node) -> tuple[str, ...]:
    data = layer.inputs[0]
    maker = makers.get(data)
    if maker is None or maker.op_type != "Mul":
        return (data,)
    whole = [name for name in maker.inputs if graph.values[name].shape == graph.values[data].shape]
    return (data, *whole) if len(whole) == 1 and whole[0] in makers else (data,)


def _gate_layers(graph: Graph) -> set[str]:
    """Outputs of the layers between a mean over the image and the product of the image with what is made of it."""
    makers = {node.output: node for node in graph.nodes}
    found: set[str] = set()
    for node in graph.nodes:
        if node.op_type != "Mul":
            continue
        shapes = [graph.values[name].shape for name in node.inputs]
        for name, shape, other in zip(node.inputs, shapes, reversed(shapes), strict=True):
            if len(shape) == 4 and shape[2:] == (1, 1) and other[2:] != (1, 1):
                found |= _layers_behind(makers, name)
    return found


def _layers_behind(makers: dict[str, Node], name: str) -> set[str]:
    """The layers that a gate is made by, back to the mean over the image."""
    found, open_names = set[str](), [name]
    while open_names:
        node = makers.get(open_names.pop())
        if node is None or node.op_type in ("GlobalAveragePool", "AveragePool", "ReduceMean"):
            continue
        found |= {node.output} if node.op_type in _LAYERS else set()
        open_names += node.inputs[:1]
    return found
