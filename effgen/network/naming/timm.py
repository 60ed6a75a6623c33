"""timm's names."""

from __future__ import annotations

from dataclasses import replace

from effgen.network.naming.layers import Blocks, NamedLayer, graph_name

#: The parts of a block that timm calls by other names; the pointwise convolution of a block without expansion is
#: `conv_pw`, the window of a fused one `conv_exp`.
_PARTS = {"": "conv", "expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}


#: How names of timm's blocks begin.
_PLACE = r"blocks\.(\d+)\.(\d+)\."


def efficientnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`blocks.1.0.conv_pwl`; a block's batch norms are numbered as they are present."""
    if layer.place == "stages":
        return _block(layer, blocks)
    if layer.place == "classifier":
        return "classifier"
    names = {
        "stem": ("conv_stem", "bn1"),
        "head": ("conv_head", "norm_head" if blocks.head_has_norm_after_pool else "bn2"),
    }
    return names[layer.place][layer.kind == "norm"]


#: The parts of MobileNetV4's blocks.
_UNIVERSAL = {"start": "dw_start", "widen": "pw_exp", "middle": "dw_mid", "narrow": "pw_proj"}


def _block(layer: NamedLayer, blocks: Blocks) -> str:
    stage, block = blocks.place_in_file(layer, _PLACE)
    place = f"blocks.{stage}.{block}"
    if layer.part == "se":
        return f"{place}.se.conv_{layer.kind}"
    if layer.split:  # a mixed convolution's parts are numbered within it
        whole = replace(layer, kind="conv")
        return f"{_block(whole, blocks)}.{layer.kind.removeprefix('conv')}"
    parts = [part for part in blocks.parts(layer) if part != "se"]
    if layer.part in _UNIVERSAL:
        return f"{place}.{_UNIVERSAL[layer.part]}.{'bn' if layer.kind == 'norm' else 'conv'}"
    if layer.kind == "norm":
        return f"{place}.bn{parts.index(layer.part) + 1}"
    if layer.part == "project" and "expand" not in parts:
        return f"{place}.conv_pw"
    if layer.part == "expand" and "depthwise" not in parts:
        return f"{place}.conv_exp"
    return f"{place}.{_PARTS[layer.part]}" if layer.part in _PARTS else graph_name(layer, blocks)


#: The parts of a GhostNet's block: the module, and the numbers of its convolution and its batch norm.
_GHOST_PARTS = {
    "expand.primary": ("ghost1.primary_conv", "0", "1"),
    "expand.cheap": ("ghost1.cheap_operation", "0", "1"),
    "project.primary": ("ghost2.primary_conv", "0", "1"),
    "project.cheap": ("ghost2.cheap_operation", "0", "1"),
    "downsample.depthwise": ("shortcut", "0", "1"),
    "downsample.project": ("shortcut", "2", "3"),
}


def ghostnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`blocks.3.0.ghost1.primary_conv.0`; every block that strides is a stage of its own."""
    if layer.place != "stages":
        return efficientnet(layer, blocks)
    stage, block = blocks.place_in_file(layer, _PLACE)
    place, is_norm = f"blocks.{stage}.{block}", layer.kind == "norm"
    if layer.part in _GHOST_PARTS:
        module, *numbers = _GHOST_PARTS[layer.part]
        return f"{place}.{module}.{numbers[is_norm]}"
    names = {"depthwise": ("conv_dw", "bn_dw"), "": ("conv", "bn1"), "se": (f"se.conv_{layer.kind}",) * 2}
    return f"{place}.{names[layer.part][is_norm]}" if layer.part in names else graph_name(layer, blocks)


#: The parts of a RegNet's block.
_REGNET_PARTS = {"reduce": "conv1", "window": "conv2", "project": "conv3", "downsample": "downsample", "se": "se"}


def regnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`s1.b1.conv1.conv`; stages and blocks count from 1."""
    kind = {"conv": "conv", "norm": "bn", "reduce": "fc1", "expand": "fc2"}.get(layer.kind, "")
    if layer.place == "classifier":
        return "head.fc"
    if layer.place == "stem":
        return f"stem.{kind}"
    if layer.place != "stages" or layer.part not in _REGNET_PARTS:
        return graph_name(layer, blocks)
    return f"s{layer.stage + 1}.b{layer.block + 1}.{_REGNET_PARTS[layer.part]}.{kind}"
