"""A graph counts right, prints the same text every time, and refuses what breaks its rules."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from networks import kinds_graph, tiny_graph

from effgen.errors import GraphError
from effgen.graph import Graph, GraphBuilder, Node, Parameter, Role, Value, check_weights
from effgen.network.weights import initial_weights


@pytest.mark.parametrize("name", ["tiny", "tiny_same_relu6", "kinds"])
def test_the_dump_is_as_recorded(name: str, check_golden: Callable[[str, str], None]) -> None:
    """Shows in a diff what a change of lowering does."""
    activation = '"silu"' if name == "tiny" else '"relu6"\npadding = "same"'
    graph = kinds_graph() if name == "kinds" else tiny_graph(activation=activation)
    check_golden(f"{name}.graph.txt", graph.dump())


def test_counts_of_a_network_done_by_hand() -> None:
    """One 3x3 convolution of 3 -> 8 channels at 4x4, batch norm, pool, and a classifier of 8 -> 5."""
    b = GraphBuilder("hand", Value("x", (2, 3, 4, 4)))
    kernel = b.parameter("k", (8, 3, 3, 3), "kernel")
    x = b.add("Conv", ["x", kernel], "conv", group=1, pads=(1, 1, 1, 1), strides=(1, 1))
    roles: tuple[Role, ...] = ("norm_scale", "norm_bias", "norm_mean", "norm_var")
    norms = [b.parameter(role, (8,), role) for role in roles]
    x = b.add("BatchNormalization", [x, *norms], "norm", epsilon=1e-5)
    x = b.add("Flatten", [b.add("GlobalAveragePool", [x], "pool")], "flat", axis=1)
    weight, bias = b.parameter("w", (5, 8), "kernel"), b.parameter("b", (5,), "bias")
    graph = b.finish(b.add("Gemm", [x, weight, bias], "y", transB=1))
    assert graph.parameter_count == 8 * 27 + 2 * 8 + 5 * 8 + 5
    assert graph.macs == 16 * 8 * 27 + 5 * 8
    assert graph.batch == 2
    conv, gemm = graph.nodes[0], graph.nodes[-1]
    assert graph.macs_of(conv) == 2 * 16 * 8 * 27
    assert graph.macs_of(graph.nodes[1]) == 0
    assert graph.bytes_of(conv) == 4 * (2 * 3 * 16 + 8 * 27 + 2 * 8 * 16)
    assert graph.bytes_of(gemm) == 4 * (2 * 8 + 5 * 8 + 5 + 2 * 5)
    assert graph.shapes_into(gemm) == [(2, 8), (5, 8), (5,)]


# What `verify` refuses. Each case changes one thing in a graph that is in order.


def small() -> Graph:
    """x -> Conv -> Relu -> y"""
    return Graph(
        "small",
        Value("x", (1, 3, 8, 8)),
        "y",
        (
            Node("Conv", ("x", "k", "b"), "conv", {"group": 1, "pads": (1, 1, 1, 1), "strides": (1, 1)}),
            Node("Relu", ("conv",), "y"),
        ),
        {"k": Parameter("k", (4, 3, 3, 3), "kernel"), "b": Parameter("b", (4,), "bias")},
    )


def with_conv(
    inputs: tuple[str, ...] = ("x", "k", "b"), kernel: tuple[int, ...] = (4, 3, 3, 3), **attributes: Any
) -> Graph:
    graph = small()
    conv = replace(graph.nodes[0], inputs=inputs, attributes={**graph.nodes[0].attributes, **attributes})
    return replace(
        graph,
        nodes=(conv, graph.nodes[1]),
        parameters={**graph.parameters, "k": Parameter("k", kernel, "kernel")},
    )


def with_node(node: Node) -> Graph:
    """x -> Conv -> Relu -> `node` -> y, with a parameter p of 4 values if the node reads it."""
    graph = small()
    parameters = dict(graph.parameters)
    if "p" in node.inputs:
        parameters["p"] = Parameter("p", (4,), "bias")
    return replace(
        graph,
        nodes=(graph.nodes[0], replace(graph.nodes[1], output="relu"), replace(node, output="y")),
        parameters=parameters,
    )


def test_a_graph_in_order() -> None:
    assert small().verify().values["y"].shape == (1, 4, 8, 8)


BROKEN: dict[str, tuple[Graph, str]] = {
    "no output": (replace(small(), outputs=()), "small: has no output"),
    "output twice": (replace(small(), outputs=("y", "y")), "small: output y is there twice"),
    "input as output": (replace(small(), outputs=("y", "x")), "small: output x is computed by no node"),
    "output": (replace(small(), outputs=("z",)), "small: output z is computed by no node"),
    "twice": (
        replace(small(), nodes=(*small().nodes, small().nodes[1])),
        "small: y is defined twice",
    ),
    "idle node": (replace(small(), nodes=(*small().nodes, Node("Relu", ("x",), "r"))), "small: never used: r"),
    "idle parameter": (with_conv(("x", "k")), "small: never used: b"),
    "order": (
        replace(small(), nodes=small().nodes[::-1]),
        "y: Relu reads conv, which nothing before it computes",
    ),
    "unknown name": (with_conv(("x", "q")), "conv: Conv reads q, which nothing before it computes"),
    "unknown operator": (
        with_node(Node("Sigmoyd", ("relu",), "")),
        "y: operator Sigmoyd is not supported; did you mean Sigmoid? known: Abs, Add, AveragePool, BatchNormalization",
    ),
    "arity": (with_conv(("x",)), "conv: Conv takes 2 to 3 inputs, found 1"),
    "surplus attribute": (with_conv(dilated=(1, 1)), "conv: Conv has no attribute dilated"),
    "lacking attribute": (with_node(Node("Clip", ("relu",), "", {"min": 0.0})), "y: Clip lacks its attribute max"),
    "channels": (
        with_conv(kernel=(4, 5, 3, 3)),
        "conv: Conv: weight (4, 5, 3, 3) with group=1 does not fit data (1, 3, 8, 8)",
    ),
    "groups": (
        with_conv(kernel=(4, 1, 3, 3), group=3),
        "conv: Conv: weight (4, 1, 3, 3) with group=3 does not fit data (1, 3, 8, 8)",
    ),
    "rank of the weight": (
        with_conv(kernel=(4, 3)),
        "conv: Conv: expected 4-D data and weight, found (1, 3, 8, 8) and (4, 3)",
    ),
    "bias": (with_conv(kernel=(5, 3, 3, 3)), "conv: Conv: bias (4,): expected (5,)"),
    "strides": (with_conv(strides=(0, 1)), "conv: Conv: strides (0, 1): expected 2 numbers, 1 or more"),
    "large dilation": (
        with_conv(dilations=(6, 1)),
        "conv: Conv: kernel (13, 3) is larger than the padded image (10, 10)",
    ),
    "large kernel": (
        with_conv(kernel=(4, 3, 11, 3)),
        "conv: Conv: kernel (11, 3) is larger than the padded image (10, 10)",
    ),
    "norm": (
        with_node(Node("BatchNormalization", ("relu", "p", "p", "p", "k"), "", {"epsilon": 1e-5})),
        "y: BatchNormalization: parameter (4, 3, 3, 3): expected (4,)",
    ),
    "norm of a vector": (
        with_node(Node("BatchNormalization", ("p", "p", "p", "p", "p"), "", {"epsilon": 1e-5})),
        "y: BatchNormalization: expected data with channels, found (4,)",
    ),
    "ranks": (
        with_node(Node("Add", ("relu", "p"), "")),
        "y: expected two tensors of one rank, found (1, 4, 8, 8) and (4,)",
    ),
    "broadcast": (with_node(Node("Mul", ("relu", "x"), "")), "y: (1, 4, 8, 8) and (1, 3, 8, 8) do not broadcast"),
    "pool": (with_node(Node("GlobalAveragePool", ("p",), "")), "y: GlobalAveragePool: expected 4-D data, found (4,)"),
    "pool's pads": (
        with_node(Node("MaxPool", ("relu",), "", {"kernel_shape": (2, 2), "pads": (0, 2, 0, 0), "strides": (1, 1)})),
        "y: pooling: pads (0, 2, 0, 0): a window (2, 2) may lie beyond the image; expected less than it",
    ),
    "concat": (
        with_node(Node("Concat", ("relu", "x"), "", {"axis": 2})),
        "y: Concat: (1, 4, 8, 8), (1, 3, 8, 8) differ in more than axis 2",
    ),
    "concat of sizes": (
        with_node(Node("Concat", ("relu", "k"), "", {"axis": 1})),
        "y: Concat: (1, 4, 8, 8), (4, 3, 3, 3) differ in more than their channels",
    ),
    "slice": (
        with_node(Node("Slice", ("relu",), "", {"axes": (1,), "starts": (2,), "ends": (5,), "steps": (1,)})),
        "y: Slice: 2 to 5 in steps of 1 along axis 1 of (1, 4, 8, 8): nothing is there",
    ),
    "shuffle": (
        with_node(Node("ChannelShuffle", ("relu",), "", {"group": 3})),
        "y: ChannelShuffle: (1, 4, 8, 8) in 3 groups: expected an image whose channels they divide",
    ),
    "softmax": (
        with_node(Node("Softmax", ("relu",), "", {"axis": 4})),
        "y: Softmax: axes (4,) of (1, 4, 8, 8): expected each of its axes once at most",
    ),
    "transB": (
        with_node(Node("Gemm", ("relu", "k"), "", {"transB": 0})),
        "y: Gemm: only transB=1 (weight [out, in], as PyTorch's Linear) is supported",
    ),
    "gemm": (
        with_node(Node("Gemm", ("relu", "k"), "", {"transB": 1})),
        "y: Gemm: weight (4, 3, 3, 3) does not fit data (1, 4, 8, 8)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_verify_catches(case: str) -> None:
    graph, message = BROKEN[case]
    with pytest.raises(GraphError) as caught:
        graph.verify()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_input_that_nothing_reads() -> None:
    graph = Graph("idle", Value("x", (4,)), ("y",), (Node("Relu", ("p",), "y"),), {"p": Parameter("p", (4,), "bias")})
    with pytest.raises(GraphError, match=r"^idle: never used: x$"):
        graph.verify()


def test_broadcasting_takes_the_larger_side() -> None:
    graph = with_node(Node("GlobalAveragePool", ("relu",), ""))
    pool = replace(graph.nodes[2], output="pool")
    graph = replace(graph, nodes=(*graph.nodes[:2], pool, Node("Mul", ("pool", "relu"), "y")))
    assert graph.verify().values["y"].shape == (1, 4, 8, 8)


def test_the_builder_guards_our_own_mistakes() -> None:
    b = GraphBuilder("b", Value("x", (1, 4)))
    b.add("Relu", ["x"], "y")
    with pytest.raises(AssertionError, match="y is defined twice"):
        b.add("Relu", ["x"], "y")
    with pytest.raises(AssertionError, match="x is declared twice"):
        b.parameter("x", (1,), "bias")


def test_weights_are_exactly_the_parameters() -> None:
    graph = tiny_graph()
    weights = initial_weights(graph, 0)
    check_weights(graph, weights)
    lacking = {name: array for name, array in weights.items() if name != "stem.conv.weight"}
    double = weights | {"classifier.bias": np.zeros(10)}
    misshapen = weights | {"classifier.bias": np.zeros(9, np.float32)}
    for wrong in (lacking, double, misshapen):
        with pytest.raises(AssertionError):
            check_weights(graph, wrong)
