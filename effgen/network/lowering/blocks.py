"""The block kinds of a spec, one function each.

A convolution has a batch norm behind it; activations stand where they are drawn. All but `bottleneck` end with the
skip, an `Add` named `{block}.skip`, at stride 1 with equal channels:

    mbconv               expand 1x1, act -> depthwise k x k, act -> squeeze-excite -> project 1x1
    fused_mbconv         expand k x k, act -> squeeze-excite -> project 1x1
    depthwise_separable  depthwise k x k, act -> squeeze-excite -> project 1x1 (, act)
    conv                 k x k, act
    bottleneck           reduce 1x1, act -> window k x k, act -> project 1x1 -> skip -> act

Without expansion (ratio 1) `mbconv` has no first convolution and `fused_mbconv` is `conv`, as released models have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from effgen.network.lowering.layers import Layers
from effgen.network.scaling import round_channels
from effgen.network.spec import BlockKind, StageSpec

#: (layers, input tensor, the block's name, its stage, its stride) -> output tensor
Block = Callable[[Layers, str, str, StageSpec, int], str]


def mbconv(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str:
    """Inverted residual (MobileNetV2, arXiv 1801.04381, Table 1) with squeeze-excite (MnasNet, arXiv 1807.11626)."""
    block_input, activation = x, stage.activation or layers.spec.activation
    if stage.expand_ratio != 1:
        x = layers.conv_norm(x, f"{name}.expand", _expanded(layers, x, stage), kernel=1)
        x = layers.activation(x, activation)
    x = _depthwise(layers, x, block_input, name, stage, stride)
    x = layers.conv_norm(x, f"{name}.project", stage.channels, kernel=1)
    return _skip(layers, x, block_input, name, stage, stride)


def fused_mbconv(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str:
    """Fused MBConv (EfficientNetV2, arXiv 2104.00298, Figure 2): one window instead of expansion and depthwise."""
    block_input, activation = x, stage.activation or layers.spec.activation
    if stage.expand_ratio == 1:
        x = layers.activation(layers.conv_norm(x, name, stage.channels, stage.kernel, stride), activation)
        x = _squeeze_excite(layers, x, block_input, name, stage)
    else:
        expanded = _expanded(layers, x, stage)
        x = layers.activation(layers.conv_norm(x, f"{name}.expand", expanded, stage.kernel, stride), activation)
        x = _squeeze_excite(layers, x, block_input, name, stage)
        x = layers.conv_norm(x, f"{name}.project", stage.channels, kernel=1)
    return _skip(layers, x, block_input, name, stage, stride)


def depthwise_separable(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str:
    """MobileNetV1 (arXiv 1704.04861, Figure 3); linear as the first block of MnasNet (SepConv) and MobileNetV3."""
    block_input = x
    x = _depthwise(layers, x, block_input, name, stage, stride)
    x = layers.conv_norm(x, f"{name}.project", stage.channels, kernel=1)
    if not stage.linear:
        x = layers.activation(x, stage.activation or layers.spec.activation)
    return _skip(layers, x, block_input, name, stage, stride)


def conv(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str:
    """One convolution, e.g. the last before pooling in MobileNetV3 (arXiv 1905.02244, Table 1)."""
    block_input = x
    x = layers.conv_norm(x, name, stage.channels, stage.kernel, stride)
    x = layers.activation(x, stage.activation or layers.spec.activation)
    return _skip(layers, x, block_input, name, stage, stride)


def bottleneck(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str:
    """ResNet-50's block (arXiv 1512.03385, Figure 5), the stride in its window ("v1.5") as in torchvision and timm.

    Where the shape changes, the skip is a strided 1x1 convolution with batch norm, `{name}.downsample`.
    """
    activation = stage.activation or layers.spec.activation
    residual = x
    if stage.skip and (stride != 1 or layers.channels(x) != stage.channels):
        residual = layers.conv_norm(x, f"{name}.downsample", stage.channels, kernel=1, stride=stride)
    hidden = round_channels(stage.channels * stage.bottleneck_ratio, layers.spec.rounding)
    x = layers.activation(layers.conv_norm(x, f"{name}.reduce", hidden, kernel=1), activation)
    x = layers.activation(layers.conv_norm(x, f"{name}.window", hidden, stage.kernel, stride), activation)
    x = layers.conv_norm(x, f"{name}.project", stage.channels, kernel=1)
    if stage.skip:
        x = layers.b.add("Add", [x, residual], f"{name}.skip")
    return layers.activation(x, activation)


BLOCKS: Mapping[BlockKind, Block] = {
    "mbconv": mbconv,
    "fused_mbconv": fused_mbconv,
    "depthwise_separable": depthwise_separable,
    "conv": conv,
    "bottleneck": bottleneck,
}


def _expanded(layers: Layers, x: str, stage: StageSpec) -> int:
    return round_channels(layers.channels(x) * stage.expand_ratio, layers.spec.rounding)


def _depthwise(layers: Layers, x: str, block_input: str, name: str, stage: StageSpec, stride: int) -> str:
    """Depthwise convolution, activation and squeeze-excite."""
    channels = layers.channels(x)
    x = layers.conv_norm(x, f"{name}.depthwise", channels, stage.kernel, stride, groups=channels)
    x = layers.activation(x, stage.activation or layers.spec.activation)
    return _squeeze_excite(layers, x, block_input, name, stage)


def _squeeze_excite(layers: Layers, x: str, block_input: str, name: str, stage: StageSpec) -> str:
    if stage.squeeze_excite is None:
        return x
    activation = stage.activation or layers.spec.activation
    return layers.squeeze_excite(x, f"{name}.se", stage.squeeze_excite, layers.channels(block_input), activation)


def _skip(layers: Layers, x: str, block_input: str, name: str, stage: StageSpec, stride: int) -> str:
    if stage.skip and stride == 1 and layers.channels(x) == layers.channels(block_input):
        return layers.b.add("Add", [x, block_input], f"{name}.skip")
    return x
