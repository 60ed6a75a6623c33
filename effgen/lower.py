"""NetworkSpec -> Graph: what each block of the spec means, operator by operator.

MBConv (paper, section 4; MobileNetV2 with squeeze-excite): expand 1x1 -> depthwise k x k -> squeeze-excite ->
project 1x1, batch norm after each convolution, activation after the first two, skip at stride 1 with equal channels.
"""

from __future__ import annotations

from effgen.errors import SpecError
from effgen.graph import Graph, GraphBuilder, Value
from effgen.ops import Shape
from effgen.scaling import round_channels
from effgen.spec import Activation, Gate, NetworkSpec, SqueezeExciteSpec, StageSpec

INPUT_NAME = "image"
OUTPUT_NAME = "logits"
LOWERED_BLOCKS = ("mbconv",)


def lower(spec: NetworkSpec, batch: int = 1) -> Graph:
    """The graph of a scaled spec: `image` (batch, channels, resolution, resolution) -> `logits` (batch, classes).

    Raises SpecError for a block kind that is not lowered yet.
    """
    for index, stage in enumerate(spec.stages):
        if stage.block not in LOWERED_BLOCKS:
            raise SpecError(
                f"{spec.name}: stages[{index}].block = {stage.block!r}: this block kind is not lowered yet; "
                f"lowered: {', '.join(LOWERED_BLOCKS)}"
            )
    image = Value(INPUT_NAME, (batch, spec.input.channels, spec.input.resolution, spec.input.resolution))
    return _Lowering(spec, GraphBuilder(spec.name, image)).run()


class _Lowering:
    """Walks the spec once; every method takes and returns tensor names."""

    def __init__(self, spec: NetworkSpec, builder: GraphBuilder) -> None:
        self.spec = spec
        self.b = builder

    def run(self) -> Graph:
        spec, b = self.spec, self.b
        b.scope = "stem"
        stem = spec.stem
        x = self.conv_norm(INPUT_NAME, "stem", stem.channels, stem.kernel, stem.stride)
        x = self.activation(x, stem.activation or spec.activation)
        for index, stage in enumerate(spec.stages):
            b.scope = f"stages.{index}"
            for block in range(stage.repeats):
                x = self.mbconv(x, f"stages.{index}.{block}", stage, stage.stride if block == 0 else 1)
        b.scope = "head"
        x = self.conv_norm(x, "head", spec.head.channels, kernel=1)
        x = self.activation(x, spec.head.activation or spec.activation)
        x = b.add("GlobalAveragePool", [x], "pool")
        b.scope = "classifier"
        return b.finish(self.classifier(x))

    def classifier(self, x: str) -> str:
        x = self.b.add("Flatten", [x], "features", axis=1)
        classes, features = self.spec.classifier.classes, self.b.shape(x)[1]
        weight = self.b.parameter("classifier.weight", (classes, features), "kernel")
        bias = self.b.parameter("classifier.bias", (classes,), "bias")
        return self.b.add("Gemm", [x, weight, bias], OUTPUT_NAME, transB=1)

    def mbconv(self, x: str, name: str, stage: StageSpec, stride: int) -> str:
        block_input, in_channels = x, self.b.shape(x)[1]
        activation = stage.activation or self.spec.activation
        expanded = round_channels(in_channels * stage.expand_ratio, self.spec.rounding)
        if stage.expand_ratio != 1:
            x = self.activation(self.conv_norm(x, f"{name}.expand", expanded, kernel=1), activation)
        else:
            expanded = in_channels
        x = self.conv_norm(x, f"{name}.depthwise", expanded, stage.kernel, stride, groups=expanded)
        x = self.activation(x, activation)
        if stage.squeeze_excite is not None:
            x = self.squeeze_excite(x, f"{name}.se", stage.squeeze_excite, in_channels, activation)
        x = self.conv_norm(x, f"{name}.project", stage.channels, kernel=1)
        if stage.skip and stride == 1 and in_channels == stage.channels:
            x = self.b.add("Add", [x, block_input], f"{name}.skip")
        return x

    def squeeze_excite(self, x: str, name: str, se: SqueezeExciteSpec, block_in: int, activation: Activation) -> str:
        channels = self.b.shape(x)[1]
        hidden = squeezed_channels(se, block_in, channels)
        gate = self.b.add("GlobalAveragePool", [x], f"{name}.pool")
        gate = self.conv_bias(gate, f"{name}.reduce", hidden)
        gate = self.activation(gate, se.activation or activation)
        gate = self.gate(self.conv_bias(gate, f"{name}.expand", channels), se.gate)
        return self.b.add("Mul", [x, gate], f"{name}.scale")

    def conv_bias(self, x: str, name: str, out: int) -> str:
        weight = self.b.parameter(f"{name}.weight", (out, self.b.shape(x)[1], 1, 1), "kernel")
        bias = self.b.parameter(f"{name}.bias", (out,), "bias")
        return self.b.add("Conv", [x, weight, bias], name, group=1, pads=(0, 0, 0, 0), strides=(1, 1))

    def conv_norm(self, x: str, name: str, out: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        b, shape = self.b, self.b.shape(x)
        weight = b.parameter(f"{name}.conv.weight", (out, shape[1] // groups, kernel, kernel), "kernel")
        pads = self.pads(shape, kernel, stride)
        x = b.add("Conv", [x, weight], f"{name}.conv", group=groups, pads=pads, strides=(stride, stride))
        statistics = [
            b.parameter(f"{name}.norm.weight", (out,), "norm_scale"),
            b.parameter(f"{name}.norm.bias", (out,), "norm_bias"),
            b.parameter(f"{name}.norm.running_mean", (out,), "norm_mean"),
            b.parameter(f"{name}.norm.running_var", (out,), "norm_var"),
        ]
        return b.add("BatchNormalization", [x, *statistics], f"{name}.norm", epsilon=self.spec.norm.eps)

    def pads(self, shape: Shape, kernel: int, stride: int) -> tuple[int, int, int, int]:
        """ONNX order: top, left, bottom, right."""
        if self.spec.padding == "symmetric":
            return (kernel // 2,) * 4
        before_h, after_h = same_padding(shape[2], kernel, stride)
        before_w, after_w = same_padding(shape[3], kernel, stride)
        return before_h, before_w, after_h, after_w

    def activation(self, x: str, kind: Activation) -> str:
        name = f"{x}.{kind}"
        if kind == "relu6":
            return self.b.add("Clip", [x], name, min=0.0, max=6.0)
        return self.b.add({"silu": "Swish", "relu": "Relu", "hard_swish": "HardSwish"}[kind], [x], name)

    def gate(self, x: str, kind: Gate) -> str:
        if kind == "hard_sigmoid":
            return self.b.add("HardSigmoid", [x], f"{x}.{kind}", alpha=1 / 6, beta=0.5)
        return self.b.add("Sigmoid", [x], f"{x}.{kind}")


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME": output ceil(size / stride), the odd pixel after (bottom / right)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def squeezed_channels(se: SqueezeExciteSpec, block_in: int, expanded: int) -> int:
    """Hidden channels of squeeze-excite: at least one, a multiple of the spec's divisor."""
    base = block_in if se.of == "input" else expanded
    return (
        max(se.divisor, int(base * se.ratio + se.divisor / 2) // se.divisor * se.divisor)
        if se.divisor > 1
        else max(1, int(base * se.ratio))
    )
