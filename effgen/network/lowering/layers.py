"""The layers that blocks are made of: convolution with batch norm, activation, squeeze-excite."""

from __future__ import annotations

from collections.abc import Sequence

from effgen.errors import SpecError
from effgen.graph import GraphBuilder
from effgen.graph.ops import Shape
from effgen.network.scaling import round_channels
from effgen.network.spec import Activation, Gate, MaxPoolSpec, NetworkSpec, RoundingSpec, SqueezeExciteSpec


class Layers:
    """Adds layers to the graph of a spec: methods take and return names of tensors (batch, channels, height, width)."""

    def __init__(self, spec: NetworkSpec, builder: GraphBuilder) -> None:
        self.spec = spec
        self.b = builder

    def channels(self, x: str) -> int:
        """How many channels the tensor has."""
        return self.b.shape(x)[1]

    def conv_norm(self, x: str, name: str, out: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        """A convolution without bias, `{name}.conv`, and its batch norm, `{name}.norm`."""
        return self._norm(self._conv(x, f"{name}.conv", out, kernel, stride, groups), name, out)

    def mixed_conv_norm(
        self, x: str, name: str, out: int, kernels: Sequence[int], stride: int = 1, depthwise: bool = False
    ) -> str:
        """A convolution of each of as many parts of the channels as there are `kernels`, `{name}.conv0`, ..., joined,
        and the batch norm of all, `{name}.norm` (MixNet, arXiv 1907.09595)."""
        if min(self.channels(x), out) < len(kernels):
            raise SpecError(f"{name}: {self.channels(x)} channels to {out} in {len(kernels)} parts: expected more")
        before, after = (split_channels(count, len(kernels)) for count in (self.channels(x), out))
        parts, start = [], 0
        for number, (kernel, taken, made) in enumerate(zip(kernels, before, after, strict=True)):
            part = self.some_channels(x, f"{name}.part{number}", start, start + taken)
            parts.append(self._conv(part, f"{name}.conv{number}", made, kernel, stride, taken if depthwise else 1))
            start += taken
        return self._norm(self.b.add("Concat", parts, f"{name}.joined", axis=1), name, out)

    def _conv(self, x: str, name: str, out: int, kernel: int, stride: int, groups: int) -> str:
        b, shape = self.b, self.b.shape(x)
        weight = b.parameter(f"{name}.weight", (out, shape[1] // groups, kernel, kernel), "kernel")
        pads = self.pads(shape, kernel, stride)
        return b.add("Conv", [x, weight], name, group=groups, pads=pads, strides=(stride, stride))

    def _norm(self, x: str, name: str, out: int) -> str:
        b = self.b
        statistics = [
            b.parameter(f"{name}.norm.weight", (out,), "norm_scale"),
            b.parameter(f"{name}.norm.bias", (out,), "norm_bias"),
            b.parameter(f"{name}.norm.running_mean", (out,), "norm_mean"),
            b.parameter(f"{name}.norm.running_var", (out,), "norm_var"),
        ]
        return b.add("BatchNormalization", [x, *statistics], f"{name}.norm", epsilon=self.spec.norm.eps)

    def some_channels(self, x: str, name: str, start: int, end: int) -> str:
        """The channels from `start` to before `end`."""
        return self.b.add("Slice", [x], name, axes=(1,), starts=(start,), ends=(end,), steps=(1,))

    def conv_bias(self, x: str, name: str, out: int) -> str:
        """A 1x1 convolution with a bias and no batch norm."""
        weight = self.b.parameter(f"{name}.weight", (out, self.channels(x), 1, 1), "kernel")
        bias = self.b.parameter(f"{name}.bias", (out,), "bias")
        return self.b.add("Conv", [x, weight, bias], name, group=1, pads=(0, 0, 0, 0), strides=(1, 1))

    def max_pool(self, x: str, name: str, pool: MaxPoolSpec) -> str:
        """The maximum over windows."""
        pads = self.pads(self.b.shape(x), pool.kernel, pool.stride)
        kernel, strides = (pool.kernel, pool.kernel), (pool.stride, pool.stride)
        return self.b.add("MaxPool", [x], name, kernel_shape=kernel, pads=pads, strides=strides)

    def squeeze_excite(self, x: str, name: str, se: SqueezeExciteSpec, block_in: int, activation: Activation) -> str:
        """`x` times a gate made of its means; `block_in` are the block's input channels, `activation` the block's."""
        channels = self.channels(x)
        gate = self.b.add("GlobalAveragePool", [x], f"{name}.pool")
        gate = self.conv_bias(gate, f"{name}.reduce", squeezed_channels(se, block_in, channels))
        gate = self.activation(gate, se.activation or activation)
        gate = self.gate(self.conv_bias(gate, f"{name}.expand", channels), se.gate)
        return self.b.add("Mul", [x, gate], f"{name}.scale")

    def activation(self, x: str, kind: Activation) -> str:
        """The activation of `x`, element by element."""
        name = f"{x}.{kind}"
        if kind == "relu6":
            return self.b.add("Clip", [x], name, min=0.0, max=6.0)
        return self.b.add({"silu": "Swish", "relu": "Relu", "hard_swish": "HardSwish"}[kind], [x], name)

    def gate(self, x: str, kind: Gate) -> str:
        """Numbers from 0 to 1."""
        if kind == "hard_sigmoid":
            return self.b.add("HardSigmoid", [x], f"{x}.{kind}", alpha=1 / 6, beta=0.5)
        return self.b.add("Sigmoid", [x], f"{x}.{kind}")

    def pads(self, shape: Shape, kernel: int, stride: int) -> tuple[int, int, int, int]:
        """Of a window over an image, in ONNX's order: top, left, bottom, right."""
        if self.spec.padding == "symmetric":
            return (kernel // 2,) * 4
        before_h, after_h = same_padding(shape[2], kernel, stride)
        before_w, after_w = same_padding(shape[3], kernel, stride)
        return before_h, before_w, after_h, after_w


def split_channels(channels: int, parts: int) -> list[int]:
    """Channels of each of the parts; the first has what is left over."""
    share = channels // parts
    return [channels - share * (parts - 1), *[share] * (parts - 1)]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME": output ceil(size / stride), the odd pixel after (bottom / right)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def squeezed_channels(se: SqueezeExciteSpec, block_in: int, expanded: int) -> int:
    """Hidden channels of squeeze-excite: at least one, a multiple of the spec's divisor."""
    wanted = (block_in if se.of == "input" else expanded) * se.ratio
    if se.divisor == 1:
        return max(1, int(wanted))
    return round_channels(wanted, RoundingSpec(channel_divisor=se.divisor, min_fraction=se.min_fraction))
