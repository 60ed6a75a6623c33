"""The names of the efficientnet_pytorch package (lukemelas) and of what was made of it."""

from __future__ import annotations

from effgen.network.naming.layers import Blocks, NamedLayer, graph_name

#: The parts of a block of efficientnet_pytorch, whose batch norms have fixed numbers.
_PARTS = {
    ("expand", "conv"): "_expand_conv",
    ("expand", "norm"): "_bn0",
    ("depthwise", "conv"): "_depthwise_conv",
    ("depthwise", "norm"): "_bn1",
    ("se", "reduce"): "_se_reduce",
    ("se", "expand"): "_se_expand",
    ("project", "conv"): "_project_conv",
    ("project", "norm"): "_bn2",
}

_ENDS = {
    ("stem", "conv"): "_conv_stem",
    ("stem", "norm"): "_bn0",
    ("head", "conv"): "_conv_head",
    ("head", "norm"): "_bn1",
    ("classifier", ""): "_fc",
}


def efficientnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`_blocks.3._depthwise_conv`, blocks numbered through: efficientnet_pytorch and the lite packages made of it."""
    if layer.place == "stages":
        part = _PARTS.get((layer.part, layer.kind))
        return f"_blocks.{blocks.place_in_network(layer)}.{part}" if part else graph_name(layer, blocks)
    return _ENDS.get((layer.place, layer.kind)) or graph_name(layer, blocks)
