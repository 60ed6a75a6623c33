"""How torchvision, timm, efficientnet_pytorch and effgen name the layers of a network in a state dict.

A `Scheme` gives the name of each of a graph's layers; which one a file follows, and what stands before all its names,
is told by the names that it holds. A layer that a scheme has no name for keeps effgen's, which its files lack: no two
layers are loaded from one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from effgen.graph import Graph
from effgen.network.naming import efficientnet_pytorch, timm, torchvision
from effgen.network.naming.layers import Blocks, NamedLayer, graph_name

Naming = Literal["torchvision", "timm", "efficientnet_pytorch", "effgen"]


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
        named = graph_name if layer.split and self.layer_name is not timm.efficientnet else self.layer_name
        return named(layer, blocks)


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


SCHEMES = (
    Scheme("torchvision", "features.0.0.weight", torchvision.flat, own=r"features\.\d+\.block\."),
    Scheme("torchvision", "features.0.0.weight", torchvision.mobilenet_v2, own=r"features\.\d+\.conv\."),
    Scheme("torchvision", "features.0.0.weight", torchvision.features),
    Scheme("torchvision", "layers.0.weight", torchvision.mnasnet, own=r"layers\.\d+\.\d+\.layers\."),
    Scheme("torchvision", "conv1.weight", torchvision.resnet, own=r"layer1\.0\."),
    Scheme("torchvision", "stem.0.weight", torchvision.regnet, own=r"trunk_output\."),
    Scheme("timm", "conv_stem.weight", timm.efficientnet),
    Scheme("timm", "conv_stem.weight", timm.ghostnet, own=r"blocks\.\d+\.\d+\.ghost1\."),
    Scheme("timm", "stem.conv.weight", timm.regnet, own=r"s1\.b1\."),
    Scheme("efficientnet_pytorch", "_conv_stem.weight", efficientnet_pytorch.efficientnet),
    Scheme("effgen", "stem.conv.weight", graph_name),
)
