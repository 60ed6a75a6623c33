"""Which kernels become one: the blocks of an EfficientNet, and everything that must be left alone."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from effgen.compiler.blocks import fuse_blocks, kernel_calls, look_ahead
from effgen.compiler.calls import Call, KernelCall, OpCall, calls_from_graph
from effgen.graph import GraphBuilder, Value
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.kernels.workload import Conv2d, ExpandDepthwise, SqueezeExcite
from effgen.network import NetworkRequest, build_network


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
    return fuse_blocks(calls_from_graph(b.finish(output)), output)


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


@pytest.mark.parametrize("batch", [1, 4])
def test_efficientnet(batch: int) -> None:
    graph = build_network(NetworkRequest(batch=batch)).graph
    one = np.ones((), np.float32)
    graph, _ = fold_batchnorm(graph, {name: np.broadcast_to(one, p.shape) for name, p in graph.parameters.items()})
    plain = calls_from_graph(graph)
    calls = fuse_blocks(plain, graph.output)
    block = ["sums expand", "squeeze_excite", "gated pointwise"]
    found = [kind.replace("gated residual", "gated") for kind in kinds(calls)]
    assert found == ["sums stem depthwise", *block[1:], *(15 * block), "pointwise", "pool", "Flatten", "dense"]
    assert Counter(kinds(calls))["gated residual pointwise"] == 9
    assert macs(calls) == macs(plain) == batch * graph.macs
    assert_can_run(calls, graph.input.name, graph.output)
    # Every parameter is still some layer's, once.
    assert parameters(calls) == parameters(plain)
    assert max(parameters(calls).values()) == 1


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


def test_whole_block() -> None:
    b = builder(batch=2)
    x = stem(b)
    wide = b.add("Relu", [conv(b, x, 24, "expand")], "expand.relu")
    deep = depthwise(b, wide)
    out = conv(b, b.add("Mul", [deep, gate(b, deep)], "scaled"), 8, "project")
    calls = fused(b, b.add("Add", [out, x], "sum"))
    assert kinds(calls) == ["conv2d", "sums expand", "squeeze_excite", "gated residual pointwise"]
    _, expand, excite, project = (call for call in calls if isinstance(call, KernelCall))
    assert (expand.inputs, expand.outputs) == (("stem",), ("deep.silu", "deep.silu.row_sums"))
    assert [layer.weight for layer in expand.layers] == ["expand.weight", "deep.weight"]
    assert isinstance(expand.workload, ExpandDepthwise) and expand.workload.expand.activation == "relu"
    assert (excite.inputs, excite.outputs) == (("deep.silu.row_sums",), ("gate",))
    assert [layer.weight for layer in excite.layers] == ["reduce.weight", "excite.weight"]
    assert excite.workload == SqueezeExcite(2, 6, 6, 24, 4, "relu", "sigmoid")
    assert (project.inputs, project.outputs) == (("deep.silu", "gate", "stem"), ("sum",))
    # The layers are packed as they are in the joined kernel.
    assert [layer.conv for layer in excite.layers] == [excite.workload.squeeze, excite.workload.excite]
    assert_can_run(calls, "x", "sum")


# The gate of a pointwise kernel.


def test_scaled_image_that_is_read_twice_is_made() -> None:
    b = builder()
    deep = depthwise(b, stem(b))
    scaled = b.add("Mul", [deep, gate(b, deep)], "scaled")
    calls = fused(b, b.add("Mul", [conv(b, scaled, 8, "project"), scaled], "out"))
    assert kinds(calls) == ["sums stem depthwise", "squeeze_excite", "scale", "pointwise", "Mul"]


def test_scaled_image_that_is_the_output_is_made() -> None:
    b = builder()
    deep = depthwise(b, stem(b))
    scaled = b.add("Mul", [deep, gate(b, deep)], "scaled")
    whole = b.finish(conv(b, scaled, 8, "project"))
    calls = fuse_blocks(calls_from_graph(replace(whole, output=scaled)), scaled)
    assert kinds(calls)[-2:] == ["scale", "pointwise"]


def test_scaled_image_is_no_residual_and_no_window() -> None:
    b = builder()
    x = stem(b)
    scaled = b.add("Mul", [x, gate(b, x)], "scaled")
    calls = fused(b, b.add("Add", [conv(b, x, 8, "project"), scaled], "sum"))
    assert kinds(calls)[-2:] == ["scale", "residual pointwise"]
    b = builder()
    x = stem(b)
    calls = fused(b, conv(b, b.add("Mul", [x, gate(b, x)], "scaled"), 8, "next", kernel=3))
    assert kinds(calls)[-2:] == ["scale", "conv2d"]


def test_a_gate_is_taken_once() -> None:
    b = builder()
    x = stem(b)
    g = gate(b, x)
    twice = b.add("Mul", [b.add("Mul", [x, g], "once"), g], "twice")
    calls = fused(b, conv(b, twice, 8, "project"))
    assert kinds(calls)[-2:] == ["scale", "gated pointwise"]
    assert call_of(calls, "project").inputs == ("once", "gate")


# The convolution before a depthwise kernel.


def test_stem_joins_the_depthwise_kernel() -> None:
    b = builder(batch=2)
    calls = fused(b, depthwise(b, stem(b)))
    (call,) = (call for call in calls if isinstance(call, KernelCall))
    assert isinstance(call.workload, ExpandDepthwise) and call.workload.data_layout == "NCHW"
    assert (call.inputs, call.outputs) == (("x",), ("deep.silu",))
    assert [layer.weight for layer in call.layers] == ["stem.weight", "deep.weight"]
    b = builder()
    x = stem(b)  # read twice: it stays
    assert kinds(fused(b, b.add("Add", [depthwise(b, x), x], "sum")))[0] == "conv2d"


def test_expansion_joins_the_depthwise_kernel() -> None:
    b = builder()
    calls = fused(b, depthwise(b, conv(b, stem(b), 24, "expand")))
    assert kinds(calls) == ["conv2d", "expand"]
    assert call_of(calls, "deep.silu").inputs == ("stem",)


def test_expanded_image_that_is_read_twice_is_made() -> None:
    b = builder()
    wide = conv(b, stem(b), 24, "expand")
    calls = fused(b, b.add("Mul", [depthwise(b, wide), wide], "out"))
    assert kinds(calls) == ["conv2d", "pointwise", "depthwise", "Mul"]


def test_expanded_image_that_is_the_output_is_made() -> None:
    b = builder()
    wide = conv(b, stem(b), 24, "expand")
    whole = b.finish(depthwise(b, wide))
    calls = fuse_blocks(calls_from_graph(replace(whole, output=wide)), wide)
    assert kinds(calls) == ["conv2d", "pointwise", "depthwise"]


def test_expansion_with_a_residual_or_a_gate_is_left() -> None:
    b = builder()
    x = stem(b)
    total = b.add("Add", [conv(b, x, 8, "expand"), x], "sum")
    assert kinds(fused(b, depthwise(b, total))) == ["conv2d", "residual pointwise", "depthwise"]
    b = builder()
    x = stem(b)
    scaled = b.add("Mul", [x, gate(b, x)], "scaled")
    calls = fused(b, depthwise(b, conv(b, scaled, 24, "expand")))
    assert kinds(calls)[-2:] == ["gated pointwise", "depthwise"]


def test_depthwise_kernel_with_a_residual_is_left() -> None:
    b = builder()
    x = stem(b)
    deep = depthwise(b, conv(b, x, 8, "expand"))
    assert kinds(fused(b, b.add("Add", [deep, x], "sum"))) == ["conv2d", "pointwise", "residual depthwise"]


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (1, 2)])
def test_windows_before_a_depthwise_kernel_are_left(kernel: int, stride: int) -> None:
    b = builder()
    wide = conv(b, stem(b), 24, "window", kernel, stride=stride)
    assert kinds(fused(b, depthwise(b, wide))) == ["conv2d", "conv2d", "depthwise"]


def test_image_is_never_expanded_inside() -> None:
    """The graph's input is NCHW, which no pointwise kernel reads."""
    b = builder()
    assert kinds(fused(b, depthwise(b, conv(b, "x", 24, "expand")))) == ["stem depthwise"]


# Squeeze-excite.


def test_squeeze_excite_needs_a_depthwise_kernel_before_it() -> None:
    b = builder()
    x = stem(b)
    calls = fused(b, b.add("Mul", [x, gate(b, x)], "scaled"))
    assert kinds(calls) == ["conv2d", "pool", "dense", "dense", "scale"]


def test_image_of_squeeze_excite_may_be_read_elsewhere() -> None:
    b = builder()
    deep = depthwise(b, stem(b))
    scaled = b.add("Mul", [deep, gate(b, deep)], "scaled")
    calls = fused(b, b.add("Mul", [b.add("Mul", [scaled, deep], "more"), "gate"], "out"))
    assert kinds(calls) == ["sums stem depthwise", "squeeze_excite", "scale", "Mul", "scale"]


def test_sums_include_what_a_depthwise_kernel_adds() -> None:
    b = builder()
    x = stem(b)
    total = b.add("Add", [depthwise(b, x), x], "sum")
    calls = fused(b, b.add("Mul", [total, gate(b, total)], "scaled"))
    assert kinds(calls) == ["conv2d", "residual sums depthwise", "squeeze_excite", "scale"]
    assert call_of(calls, "sum").inputs == ("stem", "stem")
    assert call_of(calls, "sum").outputs == ("sum", "sum.row_sums")


@pytest.mark.parametrize("kept", ["pool", "reduce.relu"])
def test_tensor_inside_squeeze_excite_that_is_the_output_is_made(kept: str) -> None:
    b = builder()
    deep = depthwise(b, stem(b))
    whole = b.finish(b.add("Mul", [deep, gate(b, deep)], "scaled"))
    calls = fuse_blocks(calls_from_graph(replace(whole, output=kept)), kept)
    assert kinds(calls) == ["stem depthwise", "pool", "dense", "dense", "scale"]
    assert_can_run(calls, "x", kept)


def test_tensor_inside_squeeze_excite_that_is_read_twice_is_made() -> None:
    for twice in ("pool", "reduce.relu"):
        b = builder()
        deep = depthwise(b, stem(b))
        scaled = b.add("Mul", [deep, gate(b, deep, squeezed=8)], "scaled")
        calls = fused(b, b.add("Mul", [scaled, b.add("Sigmoid", [twice], "again")], "out"))
        assert "squeeze_excite" not in kinds(calls) and "sums depthwise" not in kinds(calls), twice


def test_layer_of_squeeze_excite_with_a_residual_is_left() -> None:
    b = builder()
    deep = depthwise(b, stem(b))
    other = b.add("GlobalAveragePool", ["stem"], "other")
    pooled = b.add("GlobalAveragePool", [deep], "pool")
    first = b.add("Add", [conv(b, pooled, 8, "reduce"), other], "reduce.sum")
    calls = fused(b, b.add("Mul", [deep, conv(b, first, 8, "excite")], "scaled"))
    assert "residual dense" in kinds(calls)
    assert "squeeze_excite" not in kinds(calls) and "sums depthwise" not in kinds(calls)


def test_layer_of_squeeze_excite_of_strange_shape_is_left() -> None:
    for strange in ({"kernel": 3}, {"group": 2}, {"stride": 2}):
        b = builder()
        deep = depthwise(b, stem(b))
        first = conv(b, b.add("GlobalAveragePool", [deep], "pool"), 4, "reduce", **strange)
        calls = fused(b, b.add("Mul", [deep, conv(b, first, 8, "excite")], "scaled"))
        assert "squeeze_excite" not in kinds(calls) and "sums depthwise" not in kinds(calls), strange


def test_second_layer_that_is_no_gate_is_left() -> None:
    """Two dense layers after a pool, but not as many outputs as the image has channels: a classifier."""
    b = builder()
    pooled = b.add("GlobalAveragePool", [depthwise(b, stem(b))], "pool")
    calls = fused(b, conv(b, conv(b, pooled, 4, "hidden"), 10, "classes"))
    assert kinds(calls) == ["stem depthwise", "pool", "dense", "dense"]


def test_weights_are_asked_for_before_they_are_read() -> None:
    graph = build_network(NetworkRequest()).graph
    one = np.ones((), np.float32)
    graph, _ = fold_batchnorm(graph, {name: np.broadcast_to(one, p.shape) for name, p in graph.parameters.items()})
    calls = [call for call in kernel_calls(graph) if isinstance(call, KernelCall)]
    *_, expand, _gate, project, head, _pool, classifier = calls
    squeeze, excite = _gate.layers
    assert head.ahead == classifier.layers
    assert project.ahead == head.layers
    assert expand.ahead == (squeeze, excite, *project.layers)
    # The first images have so many rows that a weight comes at no cost; nothing is asked for twice.
    assert not calls[0].ahead and not calls[3].ahead
    asked = [layer for call in calls for layer in call.ahead]
    assert len(asked) == len(set(asked)) and len(asked) > 30


def test_a_window_asks_for_its_own_weights() -> None:
    b = builder()
    x = b.add("Relu", [conv(b, conv(b, stem(b, 64), 256, "wide"), 128, "narrow")], "narrow.relu")
    x = conv(b, x, 128, "window", kernel=3)
    end = conv(b, x, 512, "last")
    calls = {call.outputs[0]: call for call in look_ahead(fused(b, end)) if isinstance(call, KernelCall)}
    # Nothing of the window's, nor of what is read after it.
    assert calls["wide"].ahead == calls["narrow.relu"].layers
    assert not calls["narrow.relu"].ahead


def test_little_work_does_not_hide_many_weights() -> None:
    for channels, hidden in ((8, False), (512, True)):
        b = builder()
        first = conv(b, stem(b, channels), channels, "first")
        end = conv(b, conv(b, first, 24, "small"), 16384, "last")
        calls = {call.outputs[0]: call for call in look_ahead(fused(b, end)) if isinstance(call, KernelCall)}
        assert calls["last"].layers[0].conv.in_channels * 16384 > 16 * 1024
        assert not calls["small"].ahead
        assert (calls["first"].ahead == calls["last"].layers) == hidden


def test_weights_that_nothing_hides_do_not_keep_others_from_being_asked_for() -> None:
    b = builder()
    x = conv(b, conv(b, stem(b, 128), 128, "first"), 128, "second")
    end = conv(b, conv(b, x, 192, "third"), 65536, "huge")
    calls = {call.outputs[0]: call for call in look_ahead(fused(b, end)) if isinstance(call, KernelCall)}
    assert calls["second"].ahead == calls["third"].layers
    assert not calls["third"].ahead
