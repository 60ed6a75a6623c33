"""Squeeze-excite becomes row sums of a depthwise kernel and one kernel of its own."""

from dataclasses import replace

import pytest
from blocks import assert_can_run, builder, call_of, conv, depthwise, fused, gate, kinds, stem
from compiling import cut

from effgen.compiler.blocks import fuse_blocks, kernel_calls
from effgen.compiler.calls import KernelCall, calls_from_graph
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise


def test_squeeze_excite_needs_a_depthwise_kernel_before_it() -> None:
    b = builder()
    x = stem(b)
    calls = fused(b, b.add("Mul", [x, gate(b, x)], "scaled"))
    assert kinds(calls) == ["conv2d", "pool", "dense", "dense", "scale"]


def test_squeeze_excite_behind_depthwise_convolutions_side_by_side() -> None:
    b = builder()
    x = stem(b)
    channels = b.shape(x)[1]
    parts = []
    for index, (start, end) in enumerate(((0, 4), (4, channels))):
        part = cut(b, x, f"slice{index}", start, end)
        parts.append(conv(b, part, end - start, f"part{index}", kernel=2 * index + 3, group=end - start))
    deep = b.add("Swish", [b.add("Concat", parts, "whole", axis=1)], "deep")
    calls = kernel_calls(b.finish(b.add("Mul", [deep, gate(b, deep)], "scaled")))
    workloads = [call.workload for call in calls if isinstance(call, KernelCall)]
    assert [workload.family for workload in workloads] == ["conv2d", "depthwise", "squeeze_excite", "scale"]
    assert isinstance(workloads[1], MixedDepthwise) and workloads[1].row_sums
    assert calls[1].outputs == ("deep", "deep.row_sums")  # type: ignore[union-attr]


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
    calls = fuse_blocks(calls_from_graph(replace(whole, outputs=(kept,))), (kept,))
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
