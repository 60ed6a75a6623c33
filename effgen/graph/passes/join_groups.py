"""Make one convolution in groups of equal ones that share an image out between them.

    Slice x 0..8 -> Conv a, Slice x 8..16 -> Conv b, Concat(a, b)     becomes     Conv(x, a and b, twice the groups)

MixNets write their pointwise convolutions so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from effgen.graph import Graph, Node, Parameter
from effgen.graph.ops import integer, ints

#: New parameters, and the old ones that each is made of, along its first axis.
Joined = Mapping[str, tuple[str, ...]]


def join_groups(graph: Graph) -> tuple[Graph, Joined]:
    """The graph with such convolutions joined, and what their parameters are made of."""
    joining = _Joining(graph)
    for node in graph.nodes:
        if node.op_type == "Concat":
            joining.join(node)
    nodes = tuple(joining.new.get(node.output, node) for node in graph.nodes if node.output not in joining.gone)
    return replace(graph, nodes=nodes, parameters=joining.parameters).verify(), joining.joined


def slices_of(graph: Graph, producers: Mapping[str, Node], names: tuple[str, ...]) -> tuple[list[Node], str] | None:
    """The slices that are these tensors, and the image that they share out among them, in order and whole."""
    slices = [producers[name] for name in names if name in producers and producers[name].op_type == "Slice"]
    if len(slices) < max(2, len(names)) or len({node.inputs[0] for node in slices}) != 1:
        return None
    image, at = slices[0].inputs[0], 0
    for node in slices:
        cut = channels_of(node)
        if cut is None or cut.start != at:
            return None
        at = cut.stop
    return (slices, image) if at == graph.values[image].shape[1] else None


def channels_of(node: Node) -> range | None:
    """The channels that a slice has, where it is one of channels alone, in their order."""
    along = (ints(node.attributes, "axes", ()), ints(node.attributes, "steps", ()))
    if along != ((1,), (1,)):
        return None
    (start,), (end,) = ints(node.attributes, "starts", ()), ints(node.attributes, "ends", ())
    return range(start, end)


class _Joining:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = {node.output: node for node in graph.nodes}
        self.uses = graph.uses()
        self.parameters = dict(graph.parameters)
        self.joined: dict[str, tuple[str, ...]] = {}
        self.new: dict[str, Node] = {}
        self.gone: set[str] = set()

    def join(self, concat: Node) -> None:
        convs = [self.producers[name] for name in concat.inputs if name in self.producers]
        if len(convs) != len(concat.inputs) or not self.alike(convs):
            return
        found = slices_of(self.graph, self.producers, tuple(conv.inputs[0] for conv in convs))
        read_once = [name for conv in convs for name in (conv.output, *conv.inputs)]
        if found is None or any(self.uses[name] != 1 for name in read_once):
            return
        slices, image = found
        names = [self.together(own) for own in zip(*(conv.inputs[1:] for conv in convs), strict=True)]
        groups = len(convs) * integer(convs[0].attributes, "group", 1)
        attributes = {**convs[0].attributes, "group": groups}
        self.new[concat.output] = replace(convs[0], inputs=(image, *names), output=concat.output, attributes=attributes)
        self.gone |= {node.output for node in (*slices, *convs)}

    def alike(self, convs: list[Node]) -> bool:
        """Whether all are convolutions of one shape."""
        shapes = [[self.graph.values[name].shape for name in conv.inputs] for conv in convs]
        return (
            len(convs) > 1
            and all(conv.op_type == "Conv" and conv.attributes == convs[0].attributes for conv in convs)
            and all(own == shapes[0] for own in shapes)
        )

    def together(self, names: tuple[str, ...]) -> str:
        """A parameter of these, in the place of them."""
        own = [self.parameters.pop(name) for name in names]
        name = f"{names[0]}@{len(names)}"
        shape = (len(names) * own[0].shape[0], *own[0].shape[1:])
        self.parameters[name] = Parameter(name, shape, own[0].role)
        self.joined[name] = names
        return name
