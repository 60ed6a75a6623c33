"""torchvision's names; a scheme for each of its ways to divide a network."""

from __future__ import annotations

from effgen.network.naming.layers import KINDS, Blocks, NamedLayer, graph_name


def features(layer: NamedLayer, blocks: Blocks) -> str:
    """EfficientNet's: `features.2.0.block.3.0`, stages from 1, a block's parts numbered as they are present."""
    if layer.place == "stages":
        number = blocks.place_in_block(layer)
        return f"features.{layer.stage + 1}.{layer.block}.block.{number}.{KINDS[layer.kind]}"
    return _ends(layer, blocks, last=blocks.stages + 1)


def flat(layer: NamedLayer, blocks: Blocks) -> str:
    """MobileNetV3's: `features.5.block.3.0`, blocks numbered through; a block of one convolution is `features.16.0`."""
    if layer.place == "stages":
        part = f".block.{blocks.place_in_block(layer)}" if layer.part else ""
        return f"features.{blocks.place_in_network(layer) + 1}{part}.{KINDS[layer.kind]}"
    return _ends(layer, blocks, last=blocks.count + 1)


def mobilenet_v2(layer: NamedLayer, blocks: Blocks) -> str:
    """`features.2.conv.1.0`, blocks numbered through; the projection's two layers are `conv.2` and `conv.3`."""
    if layer.place == "stages":
        number, kind = blocks.place_in_block(layer), KINDS[layer.kind]
        is_last = number == len(blocks.parts(layer)) - 1 and isinstance(kind, int)
        part = f"{number + kind}" if is_last and isinstance(kind, int) else f"{number}.{kind}"
        return f"features.{blocks.place_in_network(layer) + 1}.conv.{part}"
    return _ends(layer, blocks, last=blocks.count + 1)


def _ends(layer: NamedLayer, blocks: Blocks, last: int) -> str:
    if layer.place == "classifier":
        return "classifier.3" if blocks.head_follows_pool else "classifier.1"
    if not layer.kind:
        return "classifier.0"
    return f"features.{0 if layer.place == 'stem' else last}.{KINDS[layer.kind]}"


#: Where the parts of a block stand in MNASNet's sequences.
_MNASNET_NUMBERS = {"expand": 0, "depthwise": 3, "project": 6}


def mnasnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`layers.8.0.layers.3`: one sequence with its activations counted, in which the first block stands unpacked."""
    if layer.place == "classifier":
        return "classifier.1"
    kind = 1 if layer.kind == "norm" else 0
    if layer.place in ("stem", "head") and layer.kind:
        return f"layers.{kind if layer.place == 'stem' else blocks.stages + 7 + kind}"
    is_first = (layer.stage, layer.block) == (0, 0)
    number = _MNASNET_NUMBERS.get(layer.part)
    if number is None or (is_first and layer.part == "expand"):
        return graph_name(layer, blocks)
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


def resnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`layer1.0.conv2`, in torchvision and in timm."""
    block = f"layer{layer.stage + 1}.{layer.block}." if layer.place == "stages" else ""
    if layer.place == "classifier":
        return "fc"
    if layer.part == "downsample":
        return f"{block}downsample.{KINDS[layer.kind]}"
    number = _RESNET_NUMBERS.get((layer.place, layer.part))
    if number is None:
        return graph_name(layer, blocks)
    return f"{block}{'bn' if layer.kind == 'norm' else 'conv'}{number}"


#: The parts of a RegNet's block.
_REGNET_PARTS = {"reduce": "f.a", "window": "f.b", "project": "f.c", "downsample": "proj", "se": "f.se"}


def regnet(layer: NamedLayer, blocks: Blocks) -> str:
    """`trunk_output.block1.block1-0.f.a.0`; stages count from 1, blocks from 0."""
    if layer.place == "classifier":
        return "fc"
    if layer.place == "stem":
        return f"stem.{KINDS[layer.kind]}"
    if layer.place != "stages" or layer.part not in _REGNET_PARTS:
        return graph_name(layer, blocks)
    stage = layer.stage + 1
    return f"trunk_output.block{stage}.block{stage}-{layer.block}.{_REGNET_PARTS[layer.part]}.{KINDS[layer.kind]}"
