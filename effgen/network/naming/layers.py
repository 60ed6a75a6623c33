"""A graph's layers by their place in it, and effgen's own names of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from effgen.graph import Graph

#: Of a convolution with its batch norm, the two layers' numbers in torchvision's sequences.
KINDS = {"conv": 0, "norm": 1, "reduce": "fc1", "expand": "fc2"}


@dataclass(frozen=True)
class NamedLayer:
    """A layer by its place in the graph: "stem", "head", "classifier", or a part of a block ("stages").

    `part` is empty where the block is one convolution; `kind` is conv, norm, or one of squeeze-excite's reduce and
    expand, and empty for a layer with a bias that stands alone.
    """

    place: str
    kind: str = ""
    stage: int = 0
    block: int = 0
    part: str = ""

    @property
    def split(self) -> bool:
        """Whether it is one of the convolutions that a mixed one (MixNet) consists of."""
        return self.kind.removeprefix("conv").isdecimal()

    @classmethod
    def of(cls, name: str) -> NamedLayer:
        """E.g. `stages.1.0.project.conv`, `stages.1.0.conv`, `stem.norm`, `head`."""
        place, *rest = name.split(".")
        if place != "stages":
            return cls(place, ".".join(rest))
        stage, block, *part, kind = rest
        return cls(place, kind, int(stage), int(block), ".".join(part))


class Blocks:
    """The blocks of a graph as the schemes count them; `names` are a file's, which say how it divides them."""

    def __init__(self, graph: Graph, names: Iterable[str] = ()) -> None:
        self._graph = graph
        self._names = tuple(names)
        self._parts: dict[tuple[int, int], list[str]] = {}
        self._in_files: dict[str, list[tuple[int, int]]] = {}
        for name in graph.parameters:
            layer = NamedLayer.of(name.rpartition(".")[0])
            if layer.place == "stages":
                parts = self._parts.setdefault((layer.stage, layer.block), [])
                if layer.part not in parts:
                    parts.append(layer.part)

    def parts(self, layer: NamedLayer) -> Sequence[str]:
        """The parts of the layer's block in the order in which they run."""
        return self._parts[layer.stage, layer.block]

    def place_in_block(self, layer: NamedLayer) -> int:
        """The number of the layer's part in its block."""
        return self.parts(layer).index(layer.part)

    def place_in_network(self, layer: NamedLayer) -> int:
        """The number of the layer's block in the network."""
        return self._numbers[layer.stage, layer.block]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return len(self._parts)

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return 1 + max(stage for stage, _ in self._parts)

    def place_in_file(self, layer: NamedLayer, stage_and_block: str) -> tuple[int, int]:
        """Stage and block in the file, whose names begin as `stage_and_block` says (a pattern with two numbers).

        A file's blocks run in the order of their numbers, whatever it takes for a stage: the nth there is the nth here.
        A file with more or fewer blocks is another network's; then the message is about the usual division.
        """
        if stage_and_block not in self._in_files:
            found = {match.groups() for name in self._names if (match := re.match(stage_and_block, name))}
            self._in_files[stage_and_block] = sorted((int(stage), int(block)) for stage, block in found)
        places = self._in_files[stage_and_block]
        if len(places) != self.count:
            return self.joined[layer.stage, layer.block]
        return places[self.place_in_network(layer)]

    @cached_property
    def _numbers(self) -> Mapping[tuple[int, int], int]:
        return {place: number for number, place in enumerate(self._parts)}

    @cached_property
    def joined(self) -> Mapping[tuple[int, int], tuple[int, int]]:
        """Stage and block -> the same, where a stage that changes neither channels nor pixels goes on with the stage
        before it (MobileNetV3's rows of one width)."""
        found: dict[tuple[int, int], tuple[int, int]] = {}
        number = count = -1
        for stage, block in self._parts:
            if block == 0 and not (stage > 0 and self._keeps_shape(stage)):
                number, count = number + 1, -1
            count += 1
            found[stage, block] = (number, count)
        return found

    def _keeps_shape(self, stage: int) -> bool:
        nodes = [node for node in self._graph.nodes if node.scope == f"stages.{stage}"]
        values = self._graph.values
        return values[nodes[0].inputs[0]].shape == values[nodes[-1].output].shape

    @property
    def head_has_norm_after_pool(self) -> bool:
        """Whether the head is a convolution behind the pooling, with a batch norm (MobileNetV4)."""
        return any(node.output == "head.conv" and node.inputs[0] == "pool" for node in self._graph.nodes)

    @property
    def head_follows_pool(self) -> bool:
        """Whether the head is a layer with a bias."""
        return "head.bias" in self._graph.parameters


def graph_name(layer: NamedLayer, blocks: Blocks) -> str:
    """The graph's own names."""
    block = (str(layer.stage), str(layer.block)) if layer.place == "stages" else ()
    return ".".join(word for word in (layer.place, *block, layer.part, layer.kind) if word)
