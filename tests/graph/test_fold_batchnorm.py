"""Folding changes the graph and nothing that it computes."""

from typing import Any

import numpy as np
import pytest
from compiling import cut
from networks import lively_weights, noise, relative_error, tiny_graph

from effgen.graph import Graph, GraphBuilder, Role, Value
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.graph.reference import run_reference

CONV: dict[str, Any] = {"group": 1, "pads": (1, 1, 1, 1), "strides": (1, 1)}


def norm(b: GraphBuilder, x: str, name: str, channels: int) -> str:
    roles: tuple[Role, ...] = ("norm_scale", "norm_bias", "norm_mean", "norm_var")
    parameters = [b.parameter(f"{name}.{role}", (channels,), role) for role in roles]
    return b.add("BatchNormalization", [x, *parameters], name, epsilon=1e-3)


def conv(b: GraphBuilder, x: str, name: str, bias: bool = False) -> str:
    inputs = [x, b.parameter(f"{name}.weight", (4, b.shape(x)[1], 3, 3), "kernel")]
    if bias:
        inputs.append(b.parameter(f"{name}.bias", (4,), "bias"))
    return b.add("Conv", inputs, name, **CONV)


def builder() -> GraphBuilder:
    return GraphBuilder("test", Value("x", (2, 3, 6, 6)))


def norms(graph: Graph) -> int:
    return sum(node.op_type == "BatchNormalization" for node in graph.nodes)


def assert_same_results(graph: Graph, remaining: int) -> Graph:
    """The folded graph, with `remaining` norms, computes what `graph` does."""
    weights = lively_weights(graph)
    before = {name: array.copy() for name, array in weights.items()}
    folded, arrays = fold_batchnorm(graph, weights)
    assert norms(folded) == remaining
    image = noise(graph.input.shape)
    assert relative_error(run_reference(folded, arrays, image), run_reference(graph, weights, image)) < 2e-6
    assert all(np.array_equal(weights[name], array) for name, array in before.items())  # the originals are not touched
    return folded


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_a_whole_network(padding: str) -> None:
    graph = tiny_graph(batch=2, activation=f'"silu"\npadding = "{padding}"')
    folded = assert_same_results(graph, remaining=0)
    assert folded.macs == graph.macs
    assert folded.parameters.keys() >= {"stem.conv.weight", "stem.conv.bias", "stages.0.0.se.reduce.bias"}
    assert not any(".norm." in name for name in folded.parameters)


def test_the_folded_convolution_takes_the_norms_name_and_place() -> None:
    graph = tiny_graph()
    folded, _ = fold_batchnorm(graph, lively_weights(graph))
    first = folded.nodes[0]
    assert (first.op_type, first.inputs, first.output, first.scope) == (
        "Conv",
        ("image", "stem.conv.weight", "stem.conv.bias"),
        "stem.norm",
        "stem",
    )


def test_values_of_a_channel_by_hand() -> None:
    """y = (w x - mean) * scale / sqrt(var + eps) + shift, with scale 3, shift 1, mean 0.5, var 4 - eps, w 2."""
    b = GraphBuilder("hand", Value("x", (1, 1, 1, 1)))
    kernel = b.parameter("c.weight", (1, 1, 1, 1), "kernel")
    x = b.add("Conv", ["x", kernel], "c", group=1, pads=(0, 0, 0, 0), strides=(1, 1))
    graph = b.finish(norm(b, x, "n", 1))
    values = {"c.weight": 2, "n.norm_scale": 3, "n.norm_bias": 1, "n.norm_mean": 0.5, "n.norm_var": 4 - 1e-3}
    weights = {name: np.full(graph.parameters[name].shape, value, np.float32) for name, value in values.items()}
    _, arrays = fold_batchnorm(graph, weights)
    assert arrays["c.weight"].item() == pytest.approx(2 * 1.5)
    assert arrays["c.bias"].item() == pytest.approx(1 - 0.5 * 1.5)


def test_a_convolution_that_has_a_bias() -> None:
    b = builder()
    folded = assert_same_results(b.finish(norm(b, conv(b, "x", "c", bias=True), "n", 4)), remaining=0)
    assert folded.nodes[0].inputs == ("x", "c.weight", "c.bias")


def test_a_convolution_that_is_read_twice_is_left_alone() -> None:
    b = builder()
    x = conv(b, "x", "c")
    assert_same_results(b.finish(b.add("Add", [norm(b, x, "n", 4), x], "y")), remaining=1)


def test_a_norm_of_something_else_is_left_alone() -> None:
    b = builder()
    x = norm(b, "x", "first", 3)
    x = b.add("Relu", [conv(b, x, "c")], "relu")
    assert_same_results(b.finish(norm(b, x, "last", 4)), remaining=2)


def test_two_norms_in_a_row_fold_once() -> None:
    b = builder()
    assert_same_results(b.finish(norm(b, norm(b, conv(b, "x", "c"), "n", 4), "m", 4)), remaining=1)


def test_a_shared_kernel_is_left_alone() -> None:
    b = builder()
    kernel = b.parameter("k", (3, 3, 3, 3), "kernel")
    x = norm(b, b.add("Conv", ["x", kernel], "c", **CONV), "n", 3)
    x = norm(b, b.add("Conv", [x, kernel], "d", **CONV), "m", 3)
    assert_same_results(b.finish(x), remaining=2)


def test_shared_statistics_are_left_alone() -> None:
    b = builder()
    x = conv(b, norm(b, conv(b, "x", "c"), "n", 4), "d")
    shared = [f"n.{role}" for role in ("norm_scale", "norm_bias", "norm_mean", "norm_var")]
    x = b.add("BatchNormalization", [x, *shared], "m", epsilon=1e-3)
    assert_same_results(b.finish(x), remaining=2)


def test_a_norm_behind_joined_convolutions_folds_into_each_of_them() -> None:
    b = builder()
    joined = b.add("Concat", [conv(b, "x", "first"), conv(b, "x", "second", bias=True)], "joined", axis=1)
    graph = b.finish(b.add("Relu", [norm(b, joined, "norm", 8)], "out"))
    folded = assert_same_results(graph, remaining=0)
    assert [node.op_type for node in folded.nodes] == ["Conv", "Conv", "Concat", "Relu"]


def test_a_norm_behind_joined_images_that_others_read_stays() -> None:
    b = builder()
    first = conv(b, "x", "first")
    normed = norm(b, b.add("Concat", [first, "x"], "joined", axis=1), "norm", 7)
    assert_same_results(b.finish(b.add("Concat", [normed, first], "out", axis=1)), remaining=1)
    b = builder()
    joined = b.add("Concat", [conv(b, "x", "first"), conv(b, "x", "second")], "joined", axis=1)
    assert_same_results(b.finish(b.add("Add", [norm(b, joined, "norm", 8), joined], "out")), remaining=1)


def shared_out(b: GraphBuilder, image: str, kernels: tuple[int, ...], first: int = 0) -> str:
    """Slices of 4 channels each, a convolution with a norm for each, joined."""
    parts = []
    for index, kernel in enumerate(kernels):
        part = cut(b, image, f"slice{index}", first + 4 * index, first + 4 * index + 4)
        weight = b.parameter(f"part{index}.weight", (6, 4, kernel, kernel), "kernel")
        pads = (kernel // 2,) * 4
        parts.append(b.add("Conv", [part, weight], f"part{index}", group=1, pads=pads, strides=(2, 2)))
    return norm(b, b.add("Concat", parts, "joined", axis=1), "norm", 6 * len(kernels))


def test_equal_convolutions_that_share_an_image_out_are_one_in_groups() -> None:
    b = GraphBuilder("test", Value("x", (2, 12, 6, 6)))
    folded = assert_same_results(b.finish(b.add("Relu", [shared_out(b, "x", (3, 3, 3))], "out")), remaining=0)
    assert [node.op_type for node in folded.nodes] == ["Conv", "Relu"]
    assert folded.nodes[0].attributes["group"] == 3 and folded.macs == 3 * 9 * 6 * 4 * 9


@pytest.mark.parametrize(
    ("kernels", "first", "channels"), [((3, 1), 0, 8), ((3, 3), 4, 12), ((3, 3), 0, 12), ((3,), 0, 4)]
)
def test_others_stay_apart(kernels: tuple[int, ...], first: int, channels: int) -> None:
    """Unequal ones, and such that leave channels of the image out."""
    b = GraphBuilder("test", Value("x", (2, channels, 6, 6)))
    folded = assert_same_results(b.finish(shared_out(b, "x", kernels, first)), remaining=0)
    expected = ["Concat", *["Conv"] * len(kernels), *["Slice"] * len(kernels)]
    assert sorted(node.op_type for node in folded.nodes) == expected
