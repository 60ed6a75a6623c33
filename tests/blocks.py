"""Graphs of a block or two, and what became of them."""

from collections import Counter

from effgen.compiler.blocks import fuse_blocks
from effgen.compiler.calls import Call, KernelCall, OpCall, calls_from_graph
from effgen.graph import GraphBuilder, Value
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise


def builder(channels: int = 8, batch: int = 1) -> GraphBuilder:
    return GraphBuilder("test", Value("x", (batch, channels, 6, 6)))


def conv(b: GraphBuilder, x: str, out: int, name: str, kernel: int = 1, group: int = 1, stride: int = 1) -> str:
    weight = b.parameter(f"{name}.weight", (out, b.shape(x)[1] // group, kernel, kernel), "kernel")
    pads = (kernel // 2,) * 4
    return b.add("Conv", [x, weight], name, group=group, pads=pads, strides=(stride, stride))


def stem(b: GraphBuilder, channels: int = 8) -> str:
    """Pointwise kernels do not read the image itself: it is NCHW."""
    return conv(b, "x", channels, "stem", kernel=3)


def depthwise(b: GraphBuilder, x: str, name: str = "deep") -> str:
    channels = b.shape(x)[1]
    return b.add("Swish", [conv(b, x, channels, name, kernel=3, group=channels)], f"{name}.silu")


def gate(b: GraphBuilder, x: str, squeezed: int = 4) -> str:
    """Squeeze-excite up to the gate."""
    small = b.add("Relu", [conv(b, b.add("GlobalAveragePool", [x], "pool"), squeezed, "reduce")], "reduce.relu")
    return b.add("Sigmoid", [conv(b, small, b.shape(x)[1], "excite")], "gate")


def fused(b: GraphBuilder, output: str) -> tuple[Call, ...]:
    """All of the graph's calls after fusion; `output` may be the graph's output in the middle of it."""
    return fuse_blocks(calls_from_graph(b.finish(output)), (output,))


def kinds(calls: tuple[Call, ...]) -> list[str]:
    """What each call is, in a word."""
    return [kind(call) for call in calls]


def kind(call: Call) -> str:
    if isinstance(call, OpCall):
        return call.node.op_type
    workload = call.workload
    if isinstance(workload, Conv2d):
        extra = {"gated": workload.gated, "residual": workload.residual, "sums": workload.row_sums}
        return " ".join([*(name for name, there in extra.items() if there), workload.family])
    if isinstance(workload, ExpandDepthwise):
        what = "stem depthwise" if workload.expand.is_stem else "expand"
        return f"sums {what}" if workload.depthwise.row_sums else what
    return workload.family


def call_of(calls: tuple[Call, ...], output: str) -> KernelCall:
    (found,) = (call for call in calls if isinstance(call, KernelCall) and output in call.outputs)
    return found


def macs(calls: tuple[Call, ...]) -> int:
    return sum(call.workload.macs for call in calls if isinstance(call, KernelCall))


def parameters(calls: tuple[Call, ...]) -> Counter[str | None]:
    layers = [layer for call in calls if isinstance(call, KernelCall) for layer in call.layers]
    return Counter(name for layer in layers for name in (layer.weight, layer.bias) if name)


def assert_can_run(calls: tuple[Call, ...], image: str, output: str) -> None:
    """Every tensor is made once, before it is read."""
    known = {image}
    for call in calls:
        made = [call.node.output] if isinstance(call, OpCall) else call.outputs
        assert known.issuperset(call.node.inputs if isinstance(call, OpCall) else call.inputs), call
        assert known.isdisjoint(made), call
        known.update(made)
    assert output in known
