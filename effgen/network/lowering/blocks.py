"""The block kinds of a spec, one function each.

A convolution has a batch norm behind it; activations stand where they are drawn. Where nothing
else is drawn they end with the skip, an `Add` named `{block}.skip`, at stride 1 with equal channels:

    mbconv               expand 1x1, act -> depthwise k x k, act -> squeeze-excite -> project 1x1
    fused_mbconv         expand k x k, act -> squeeze-excite -> project 1x1
    depthwise_separable  depthwise k x k, act -> squeeze-excite -> project 1x1 (, act)
    conv                 k x k, act
    bottleneck           reduce 1x1, act -> window k x k, act -> squeeze-excite -> project 1x1 -> skip -> act
    basic                first k x k, act -> second k x k -> skip -> act
    universal            start k x k -> widen 1x1, act -> middle k x k, act -> narrow 1x1
    ghost                ghost, act -> depthwise k x k (where it strides) -> squeeze-excite -> ghost -> skip

Without expansion (ratio 1) `mbconv` has no first convolution and `fused_mbconv` is `conv`, as released models have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from effgen.errors import SpecError
from effgen.network.lowering.layers import Layers
from effgen.network.scaling import round_channels
from effgen.network.spec import Activation, BlockKind, StageSpec

#: (layers, input tensor, the block's name, its stage, its stride) -> output tensor
Block = Callable[[Layers, str, str, StageSpec, int], str]


def mbconv(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str:
    """Inverted residual (MobileNetV2, arXiv 1801.04381, Table 1) with squeeze-excite (MnasNet, arXiv 1807.11626)."""
    block_input, activation = x, stage.activation or layers.spec.activation
    if stage.expand_ratio != 1 or stage.always_expand:
        x = _pointwise(layers, x, f"{name}.expand", _expanded(layers, x, stage), stage.expand_groups)
        x = layers.activation(x, activation)
    x = _depthwise(layers, x, block_input, name, stage, stride)
    x = _pointwise(layers, x, f"{name}.project", stage.channels, stage.project_groups)
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

    With groups, and squeeze-excite of the block's input channels, RegNet's (arXiv 2003.13678, Figures 4 and 15).
    """
    activation, block_input = stage.activation or layers.spec.activation, x
    shortcut = _shortcut(layers, x, name, stage, stride)
    hidden = round_channels(stage.channels * stage.bottleneck_ratio, layers.spec.rounding)
    groups = _groups(name, stage, hidden)
    x = layers.activation(layers.conv_norm(x, f"{name}.reduce", hidden, kernel=1), activation)
    x = layers.activation(layers.conv_norm(x, f"{name}.window", hidden, stage.kernel, stride, groups), activation)
    x = _squeeze_excite(layers, x, block_input, name, stage)
    x = layers.conv_norm(x, f"{name}.project", stage.channels, kernel=1)
    return layers.activation(_added(layers, x, shortcut, name), activation)


def basic(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str:
    """ResNet-18's block (arXiv 1512.03385, Figure 2), the stride in its first window."""
    activation = stage.activation or layers.spec.activation
    shortcut = _shortcut(layers, x, name, stage, stride)
    x = layers.activation(layers.conv_norm(x, f"{name}.first", stage.channels, stage.kernel, stride), activation)
    x = layers.conv_norm(x, f"{name}.second", stage.channels, stage.kernel)
    return layers.activation(_added(layers, x, shortcut, name), activation)


def universal(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str:
    """Universal inverted bottleneck (MobileNetV4, arXiv 2404.10518, section 4): either depthwise window, both or none;
    the last of them strides, where there is none the first 1x1 convolution. The first has no activation."""
    activation, block_input = stage.activation or layers.spec.activation, x
    channels, starts, middle = layers.channels(x), stage.start_kernel > 1, stage.kernel > 1
    if starts:
        own_stride = 1 if middle else stride
        x = layers.conv_norm(x, f"{name}.start", channels, stage.start_kernel, own_stride, groups=channels)
    own_stride = 1 if starts or middle else stride
    x = layers.conv_norm(x, f"{name}.widen", _expanded(layers, x, stage), kernel=1, stride=own_stride)
    x = layers.activation(x, activation)
    if middle:
        channels = layers.channels(x)
        x = layers.conv_norm(x, f"{name}.middle", channels, stage.kernel, stride, groups=channels)
        x = layers.activation(x, activation)
    x = layers.conv_norm(x, f"{name}.narrow", stage.channels, kernel=1)
    return _skip(layers, x, block_input, name, stage, stride)


def ghost(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str:
    """GhostNet's bottleneck (arXiv 1911.11907, Figure 3): half of each convolution's channels are made of the others by
    a cheap depthwise window. Where the shape changes, the skip is a depthwise window and a 1x1 convolution."""
    activation, block_input = stage.activation or layers.spec.activation, x
    x = _ghost_module(layers, x, f"{name}.expand", _expanded(layers, x, stage), activation)
    if stride > 1:
        channels = layers.channels(x)
        x = layers.conv_norm(x, f"{name}.depthwise", channels, stage.kernel, stride, groups=channels)
    x = _squeeze_excite(layers, x, block_input, name, stage)
    x = _ghost_module(layers, x, f"{name}.project", stage.channels, None)
    if not stage.skip:
        return x
    if stride != 1 or layers.channels(block_input) != stage.channels:
        channels = layers.channels(block_input)
        skip = layers.conv_norm(
            block_input, f"{name}.downsample.depthwise", channels, stage.kernel, stride, groups=channels
        )
        block_input = layers.conv_norm(skip, f"{name}.downsample.project", stage.channels, kernel=1)
    return layers.b.add("Add", [x, block_input], f"{name}.skip")


BLOCKS: Mapping[BlockKind, Block] = {
    "mbconv": mbconv,
    "fused_mbconv": fused_mbconv,
    "depthwise_separable": depthwise_separable,
    "conv": conv,
    "bottleneck": bottleneck,
    "basic": basic,
    "universal": universal,
    "ghost": ghost,
}

#: Of the cheap window in a ghost module.
_CHEAP_KERNEL = 3


def _ghost_module(layers: Layers, x: str, name: str, out: int, activation: Activation | None) -> str:
    """A pointwise convolution to half of the channels, a depthwise one of these to the other half, and both; without
    the last where `out` is odd."""
    half = -(-out // 2)
    x = layers.conv_norm(x, f"{name}.primary", half, kernel=1)
    x = layers.activation(x, activation) if activation else x
    cheap = layers.conv_norm(x, f"{name}.cheap", half, _CHEAP_KERNEL, groups=half)
    cheap = layers.activation(cheap, activation) if activation else cheap
    joined = layers.b.add("Concat", [x, cheap], f"{name}.joined", axis=1)
    return layers.some_channels(joined, f"{name}.odd", 0, out) if out % 2 else joined


def _shortcut(layers: Layers, x: str, name: str, stage: StageSpec, stride: int) -> str | None:
    """What a ResNet's block adds, None where it has no skip: its input, or where the shape changes a strided 1x1
    convolution with batch norm of it, `{name}.downsample`."""
    if not stage.skip:
        return None
    if stride == 1 and layers.channels(x) == stage.channels:
        return x
    return layers.conv_norm(x, f"{name}.downsample", stage.channels, kernel=1, stride=stride)


def _added(layers: Layers, x: str, shortcut: str | None, name: str) -> str:
    return x if shortcut is None else layers.b.add("Add", [x, shortcut], f"{name}.skip")


def _groups(name: str, stage: StageSpec, channels: int) -> int:
    width = stage.group_width or channels
    if channels % width:
        raise SpecError(f"{name}: {channels} channels in groups of group_width = {width}: expected a multiple of it")
    return channels // width


def _expanded(layers: Layers, x: str, stage: StageSpec) -> int:
    channels = layers.channels(x) if stage.expand_of == "input" else stage.channels
    return round_channels(channels * stage.expand_ratio, layers.spec.rounding)


def _pointwise(layers: Layers, x: str, name: str, out: int, groups: int) -> str:
    """A 1x1 convolution; of `groups` parts of the channels apart, where there are so many."""
    if groups == 1:
        return layers.conv_norm(x, name, out, kernel=1)
    return layers.mixed_conv_norm(x, name, out, [1] * groups)


def _depthwise(layers: Layers, x: str, block_input: str, name: str, stage: StageSpec, stride: int) -> str:
    """Depthwise convolution, activation and squeeze-excite."""
    channels, kernels = layers.channels(x), [stage.kernel, *stage.more_kernels]
    if stage.more_kernels:
        x = layers.mixed_conv_norm(x, f"{name}.depthwise", channels, kernels, stride, depthwise=True)
    else:
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
