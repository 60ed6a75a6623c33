"""What a network's output is, read off its last operators: a Softmax behind a Softmax would flatten every answer."""

from __future__ import annotations

from effgen.graph.graph import Graph, Node
from effgen.graph.ops import Shape, integer
from effgen.words import OutputKind

#: Operators that hand on the numbers of their first input, in another shape or order, or some of them.
_CARRIERS = frozenset(
    {"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Slice", "ChannelShuffle", "Concat"}
)

#: Operators whose numbers each lie between 0 and 1.
_GATES = frozenset({"Sigmoid", "HardSigmoid"})

_NORMALISING: dict[str, OutputKind] = {"Softmax": "probabilities", "LogSoftmax": "log_probabilities"}


def output_kind(graph: Graph, output: str | None = None) -> OutputKind:
    """What the numbers of the tensor `output` are (None: the graph's output), looking through what only shapes them.

    A Softmax in groups, over less than all of an image's numbers, gives several labels: the numbers are probabilities,
    and sum to more than 1. A LogSoftmax in groups is left to be logits, which it is as well as any.
    """
    makers = {node.output: node for node in graph.nodes}
    name, count = output or graph.output, _numbers(graph.values[output or graph.output].shape)
    kinds = {_kind_of(graph, node, count) for node in _ends(makers, name)}
    return kinds.pop() if len(kinds) == 1 else "logits"


def _ends(makers: dict[str, Node], name: str) -> list[Node | None]:
    """The nodes that computed what the tensor's numbers are, each once; None for those of the network's input."""
    ends: list[Node | None] = []
    waiting, seen = [name], {name}
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.op_type not in _CARRIERS:
            ends.append(node)
            continue
        parts = set(node.inputs if node.op_type == "Concat" else node.inputs[:1]) - seen
        seen |= parts
        waiting += parts
    return ends


def _kind_of(graph: Graph, node: Node | None, count: int) -> OutputKind:
    if node is None:
        return "logits"
    if node.op_type in _GATES:
        return "labels"
    kind = _NORMALISING.get(node.op_type)
    if kind is None:
        return "logits"
    shape, axis = graph.values[node.output].shape, integer(node.attributes, "axis", -1)
    if shape[axis] == _numbers(shape) and count <= shape[axis]:
        return kind
    return "labels" if kind == "probabilities" else "logits"


def _numbers(shape: Shape) -> int:
    """Numbers that a tensor has for an image."""
    total = 1
    for extent in shape[1:]:
        total *= extent
    return total
