"""How torchvision, timm, efficientnet_pytorch and effgen name the layers of a network in a state dict.

A `Scheme` gives the name of each of a graph's layers; which one a file follows, and what stands before all its names,
is told by the names that it holds. A layer that a scheme has no name for keeps effgen's, which its files lack: no two
layers are loaded from one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from effgen.graph import Graph

Naming = Literal["torchvision", "timm", "efficientnet_pytorch", "effgen"]

#: Of a convolution with its batch norm, the two layers' numbers in torchvision's sequences.
_KINDS = {"conv": 0, "norm": 1, "reduce": "fc1", "expand": "fc2"}


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


@dataclass(frozen=True)
class Scheme:
    """`stem` is the stem kernel's name; `own` matches names that no other scheme with this stem has."""

    naming: Naming
    stem: str
    layer_name: Callable[[NamedLayer, Blocks], str]
    own: str = ""

    def names_for(self, graph: Graph, names: Iterable[str] = ()) -> dict[str, str]:
        """The graph's parameter names -> those of the same tensors in a file that holds `names`."""
        blocks = Blocks(graph, names)
        split = {name: name.rpartition(".") for name in graph.parameters}
        return {name: f"{self._named(NamedLayer.of(layer), blocks)}.{leaf}" for name, (layer, _, leaf) in split.items()}

    def _named(self, layer: NamedLayer, blocks: Blocks) -> str:
        """The others than timm know no mixed convolutions."""
        return (_effgen if layer.split and self.layer_name is not _timm else self.layer_name)(layer, blocks)


def schemes_of(names: Iterable[str]) -> list[Scheme]:
    """The schemes whose stem is among `names`; of several with the same stem the one whose own names are there."""
    found = set(names)
    fitting: dict[str, Scheme] = {}
    for scheme in sorted(SCHEMES, key=lambda scheme: not scheme.own):
        if scheme.stem in found and any(re.match(scheme.own, name) for name in found):
            fitting.setdefault(scheme.stem, scheme)
    return list(fitting.values())


def prefixes_of(names: Iterable[str]) -> list[str]:
    """What stands before the names of a scheme: "" for names as they are, `module.`, `model.backbone.`; sorted."""
    found = sorted(names)
    stems = {scheme.stem for scheme in SCHEMES}
    prefixes = {name.removesuffix(stem) for stem in stems for name in found if f".{name}".endswith(f".{stem}")}
    return [prefix for prefix in sorted(prefixes) if schemes_of(under(prefix, found))]


def under(prefix: str, names: Iterable[str]) -> list[str]:
    """The names that begin with `prefix`, without it."""
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def known_stems() -> str:
    """The stems that tell the namings apart, for messages."""
    stems: dict[str, list[str]] = {}
    for scheme in SCHEMES:
        listed = stems.setdefault(scheme.naming, [])
        if scheme.stem not in listed:
            listed.append(scheme.stem)
    return ", ".join(f"{naming} ({', '.join(listed)})" for naming, listed in stems.items())


def _effgen(layer: NamedLayer, blocks: Blocks) -> str:
    """The graph's own names."""
    block = (str(layer.stage), str(layer.block)) if layer.place == "stages" else ()
    return ".".join(word for word in (layer.place, *block, layer.part, layer.kind) if word)


def _torchvision_features(layer: NamedLayer, blocks: Blocks) -> str:
    """EfficientNet's: `features.2.0.block.3.0`, stages from 1, a block's parts numbered as they are present."""
    if layer.place == "stages":
        number = blocks.place_in_block(layer)
        return f"features.{layer.stage + 1}.{layer.block}.block.{number}.{_KINDS[layer.kind]}"
    return _torchvision_ends(layer, blocks, last=blocks.stages + 1)


def _torchvision_flat(layer: NamedLayer, blocks: Blocks) -> str:
    """MobileNetV3's: `features.5.block.3.0`, blocks numbered through; a block of one convolution is `features.16.0`."""
    if layer.place == "stages":
        part = f".block.{blocks.place_in_block(layer)}" if layer.part else ""
        return f"features.{blocks.place_in_network(layer) + 1}{part}.{_KINDS[layer.kind]}"
    return _torchvision_ends(layer, blocks, last=blocks.count + 1)


def _torchvision_mobilenet_v2(layer: NamedLayer, blocks: Blocks) -> str:
    """`features.2.conv.1.0`, blocks numbered through; the projection's two layers are `conv.2` and `conv.3`."""
    if layer.place == "stages":
        number, kind = blocks.place_in_block(layer), _KINDS[layer.kind]
        is_last = number == len(blocks.parts(layer)) - 1 and isinstance(kind, int)
        part = f"{number + kind}" if is_last and isinstance(kind, int) else f"{number}.{kind}"
        return f"features.{blocks.place_in_network(layer) + 1}.conv.{part}"
    return _torchvision_ends(layer, blocks, last=blocks.count + 1)


def _torchvision_ends(layer: NamedLayer, blocks: Blocks, last: int) -> str:
    if layer.place == "classifier":
        return "classifier.3" if blocks.head_follows_pool else "classifier.1"
    if not layer.kind:
        return "classifier.0"
    return f"features.{0 if layer.place == 'stem' else last}.{_KINDS[layer.kind]}"


#: Where the parts of a block stand in MNASNet's sequences.
_MNASNET_NUMBERS = {"expand": 0, "depthwise": 3, "project": 6}


def _torchvision_mnasnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`layers.8.0.layers.3`: one sequence with its activations counted, in which the first block stands unpacked."""
    if layer.place == "classifier":
        return "classifier.1"
    kind = 1 if layer.kind == "norm" else 0
    if layer.place in ("stem", "head") and layer.kind:
        return f"layers.{kind if layer.place == 'stem' else blocks.stages + 7 + kind}"
    is_first = (layer.stage, layer.block) == (0, 0)
    number = _MNASNET_NUMBERS.get(layer.part)
    if number is None or (is_first and layer.part == "expand"):
        return _effgen(layer, blocks)
    return f"layers.{number + kind}" if is_first else f"layers.{layer.stage + 7}.{layer.block}.layers.{number + kind}"


#: The convolutions of a ResNet by place and part.
_RESNET_NUMBERS = {
    ("stem", ""): 1,
    ("stages", "reduce"): 1,
    ("stages", "window"): 2,
    ("stages", "project"): 3,
    ("stages", "first"): 1,
    ("stages", "second"): 2,
}


def _resnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`layer1.0.conv2`, in torchvision and in timm."""
    block = f"layer{layer.stage + 1}.{layer.block}." if layer.place == "stages" else ""
    if layer.place == "classifier":
        return "fc"
    if layer.part == "downsample":
        return f"{block}downsample.{_KINDS[layer.kind]}"
    number = _RESNET_NUMBERS.get((layer.place, layer.part))
    if number is None:
        return _effgen(layer, blocks)
    return f"{block}{'bn' if layer.kind == 'norm' else 'conv'}{number}"


#: The parts of a block that timm calls by other names; the pointwise convolution of a block without expansion is
#: `conv_pw`, the window of a fused one `conv_exp`.
_TIMM_PARTS = {"": "conv", "expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}


#: How names of timm's blocks begin.
_TIMM_PLACE = r"blocks\.(\d+)\.(\d+)\."


def _timm(layer: NamedLayer, blocks: Blocks) -> str:
    """`blocks.1.0.conv_pwl`; a block's batch norms are numbered as they are present."""
    if layer.place == "stages":
        return _timm_block(layer, blocks)
    if layer.place == "classifier":
        return "classifier"
    names = {
        "stem": ("conv_stem", "bn1"),
        "head": ("conv_head", "norm_head" if blocks.head_has_norm_after_pool else "bn2"),
    }
    return names[layer.place][layer.kind == "norm"]


def _timm_block(layer: NamedLayer, blocks: Blocks) -> str:
    stage, block = blocks.place_in_file(layer, _TIMM_PLACE)
    place = f"blocks.{stage}.{block}"
    if layer.part == "se":
        return f"{place}.se.conv_{layer.kind}"
    if layer.split:  # a mixed convolution's parts are numbered within it
        whole = replace(layer, kind="conv")
        return f"{_timm_block(whole, blocks)}.{layer.kind.removeprefix('conv')}"
    parts = [part for part in blocks.parts(layer) if part != "se"]
    if layer.part in _TIMM_UNIVERSAL:
        return f"{place}.{_TIMM_UNIVERSAL[layer.part]}.{'bn' if layer.kind == 'norm' else 'conv'}"
    if layer.kind == "norm":
        return f"{place}.bn{parts.index(layer.part) + 1}"
    if layer.part == "project" and "expand" not in parts:
        return f"{place}.conv_pw"
    if layer.part == "expand" and "depthwise" not in parts:
        return f"{place}.conv_exp"
    return f"{place}.{_TIMM_PARTS[layer.part]}" if layer.part in _TIMM_PARTS else _effgen(layer, blocks)


#: The parts of a block of efficientnet_pytorch, whose batch norms have fixed numbers.
_LUKEMELAS_PARTS = {
    ("expand", "conv"): "_expand_conv",
    ("expand", "norm"): "_bn0",
    ("depthwise", "conv"): "_depthwise_conv",
    ("depthwise", "norm"): "_bn1",
    ("se", "reduce"): "_se_reduce",
    ("se", "expand"): "_se_expand",
    ("project", "conv"): "_project_conv",
    ("project", "norm"): "_bn2",
}

_LUKEMELAS_ENDS = {
    ("stem", "conv"): "_conv_stem",
    ("stem", "norm"): "_bn0",
    ("head", "conv"): "_conv_head",
    ("head", "norm"): "_bn1",
    ("classifier", ""): "_fc",
}


def _lukemelas(layer: NamedLayer, blocks: Blocks) -> str:
    """`_blocks.3._depthwise_conv`, blocks numbered through: efficientnet_pytorch and the lite packages made of it."""
    if layer.place == "stages":
        part = _LUKEMELAS_PARTS.get((layer.part, layer.kind))
        return f"_blocks.{blocks.place_in_network(layer)}.{part}" if part else _effgen(layer, blocks)
    return _LUKEMELAS_ENDS.get((layer.place, layer.kind)) or _effgen(layer, blocks)


#: The parts of MobileNetV4's blocks.
_TIMM_UNIVERSAL = {"start": "dw_start", "widen": "pw_exp", "middle": "dw_mid", "narrow": "pw_proj"}

#: The parts of a RegNet's block in timm and in torchvision.
_REGNET_PARTS = {"reduce": ("conv1", "f.a"), "window": ("conv2", "f.b"), "project": ("conv3", "f.c")}


def _timm_regnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`s1.b1.conv1.conv`; stages and blocks count from 1."""
    kind = {"conv": "conv", "norm": "bn", "reduce": "fc1", "expand": "fc2"}.get(layer.kind, "")
    if layer.place == "classifier":
        return "head.fc"
    part = {**{name: timm for name, (timm, _) in _REGNET_PARTS.items()}, "downsample": "downsample", "se": "se"}
    if layer.place == "stem":
        return f"stem.{kind}"
    if layer.place != "stages" or layer.part not in part:
        return _effgen(layer, blocks)
    return f"s{layer.stage + 1}.b{layer.block + 1}.{part[layer.part]}.{kind}"


def _torchvision_regnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`trunk_output.block1.block1-0.f.a.0`; stages count from 1, blocks from 0."""
    if layer.place == "classifier":
        return "fc"
    part = {**{name: other for name, (_, other) in _REGNET_PARTS.items()}, "downsample": "proj", "se": "f.se"}
    if layer.place == "stem":
        return f"stem.{_KINDS[layer.kind]}"
    if layer.place != "stages" or layer.part not in part:
        return _effgen(layer, blocks)
    stage = layer.stage + 1
    return f"trunk_output.block{stage}.block{stage}-{layer.block}.{part[layer.part]}.{_KINDS[layer.kind]}"


#: The parts of a GhostNet's block: the module, and the numbers of its convolution and its batch norm.
_GHOST_PARTS = {
    "expand.primary": ("ghost1.primary_conv", "0", "1"),
    "expand.cheap": ("ghost1.cheap_operation", "0", "1"),
    "project.primary": ("ghost2.primary_conv", "0", "1"),
    "project.cheap": ("ghost2.cheap_operation", "0", "1"),
    "downsample.depthwise": ("shortcut", "0", "1"),
    "downsample.project": ("shortcut", "2", "3"),
}


def _timm_ghostnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`blocks.3.0.ghost1.primary_conv.0`; every block that strides is a stage of its own."""
    if layer.place != "stages":
        return _timm(layer, blocks)
    stage, block = blocks.place_in_file(layer, _TIMM_PLACE)
    place, is_norm = f"blocks.{stage}.{block}", layer.kind == "norm"
    if layer.part in _GHOST_PARTS:
        module, *numbers = _GHOST_PARTS[layer.part]
        return f"{place}.{module}.{numbers[is_norm]}"
    names = {"depthwise": ("conv_dw", "bn_dw"), "": ("conv", "bn1"), "se": (f"se.conv_{layer.kind}",) * 2}
    return f"{place}.{names[layer.part][is_norm]}" if layer.part in names else _effgen(layer, blocks)


SCHEMES = (
    Scheme("torchvision", "features.0.0.weight", _torchvision_flat, own=r"features\.\d+\.block\."),
    Scheme("torchvision", "features.0.0.weight", _torchvision_mobilenet_v2, own=r"features\.\d+\.conv\."),
    Scheme("torchvision", "features.0.0.weight", _torchvision_features),
    Scheme("torchvision", "layers.0.weight", _torchvision_mnasnet, own=r"layers\.\d+\.\d+\.layers\."),
    Scheme("torchvision", "conv1.weight", _resnet, own=r"layer1\.0\."),
    Scheme("torchvision", "stem.0.weight", _torchvision_regnet, own=r"trunk_output\."),
    Scheme("timm", "conv_stem.weight", _timm),
    Scheme("timm", "conv_stem.weight", _timm_ghostnet, own=r"blocks\.\d+\.\d+\.ghost1\."),
    Scheme("timm", "stem.conv.weight", _timm_regnet, own=r"s1\.b1\."),
    Scheme("efficientnet_pytorch", "_conv_stem.weight", _lukemelas),
    Scheme("effgen", "stem.conv.weight", _effgen),
)
