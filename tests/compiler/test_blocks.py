"""Blocks of depthwise convolutions become fewer kernels, and only where nothing else looks inside."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from blocks import assert_can_run, builder, call_of, conv, depthwise, fused, gate, kinds, macs, parameters, stem

from effgen.compiler.blocks import fuse_blocks
from effgen.compiler.calls import KernelCall, calls_from_graph
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.network import NetworkRequest, build_network


@pytest.mark.parametrize("batch", [1, 4])
def test_efficientnet(batch: int) -> None:
    graph = build_network(NetworkRequest(batch=batch)).graph
    one = np.ones((), np.float32)
    graph, _ = fold_batchnorm(graph, {name: np.broadcast_to(one, p.shape) for name, p in graph.parameters.items()})
    plain = calls_from_graph(graph)
    calls = fuse_blocks(plain, graph.outputs)
    block = ["sums expand", "squeeze_excite", "gated pointwise"]
    found = [kind.replace("gated residual", "gated") for kind in kinds(calls)]
    assert found == ["sums stem depthwise", *block[1:], *(15 * block), "pointwise", "pool", "Flatten", "dense"]
    assert Counter(kinds(calls))["gated residual pointwise"] == 9
    assert macs(calls) == macs(plain) == batch * graph.macs
    assert_can_run(calls, graph.input.name, graph.output)
    # Every parameter is still some layer's, once.
    assert parameters(calls) == parameters(plain)
    assert max(parameters(calls).values()) == 1


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
    calls = fuse_blocks(calls_from_graph(replace(whole, outputs=(scaled,))), (scaled,))
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
    calls = fuse_blocks(calls_from_graph(replace(whole, outputs=(wide,))), (wide,))
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
