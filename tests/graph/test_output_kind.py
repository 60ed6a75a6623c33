"""What a network's output is, as its last operators say."""

from __future__ import annotations

from typing import Any

import pytest

from effgen.graph import Graph, Node, Parameter, Value
from effgen.graph.output_kind import output_kind

SOME = {"axes": (1,), "starts": (1,), "ends": (4,), "steps": (1,)}


def classifier(*ends: tuple[str, dict[str, Any]], classes: int = 6, image: bool = False) -> Graph:
    """A linear layer (of an image: a 1x1 convolution behind the pooling), and the operators behind it."""
    weight = Parameter("w", (classes, 3, 1, 1) if image else (classes, 3), "kernel")
    pooled = [Node("GlobalAveragePool", ("x",), "pooled")]
    if image:
        layer = [Node("Conv", ("pooled", "w"), "n0", {"group": 1, "pads": (0,) * 4, "strides": (1, 1)})]
    else:
        layer = [Node("Flatten", ("pooled",), "flat", {"axis": 1}), Node("Gemm", ("flat", "w"), "n0", {"transB": 1})]
    tail = [Node(kind, (f"n{i}",), f"n{i + 1}", attributes) for i, (kind, attributes) in enumerate(ends)]
    nodes = (*pooled, *layer, *tail)
    return Graph("g", Value("x", (2, 3, 5, 7)), (nodes[-1].output,), nodes, {"w": weight}).verify()


FLATTEN = ("Flatten", {"axis": 1})
SOFTMAX = ("Softmax", {"axis": 1})
CASES: dict[str, tuple[list[tuple[str, dict[str, Any]]], bool, str]] = {
    "linear": ([], False, "logits"),
    "linear, flat": ([FLATTEN], True, "logits"),
    "activation": ([("Relu", {})], False, "logits"),
    "softmax": ([SOFTMAX], False, "probabilities"),
    "sigmoid": ([("Sigmoid", {})], False, "labels"),
    "hard sigmoid": ([("HardSigmoid", {"alpha": 0.2, "beta": 0.5})], False, "labels"),
    "sigmoid, flat": ([("Sigmoid", {}), FLATTEN], True, "labels"),
    "sigmoid, shuffled": ([("Sigmoid", {}), ("ChannelShuffle", {"group": 2}), FLATTEN], True, "labels"),
    "some of the probabilities": (
        [("Sigmoid", {}), ("Slice", SOME), FLATTEN],
        True,
        "labels",
    ),
    "gate of something else": ([("Sigmoid", {}), ("LeakyRelu", {"alpha": 0.1})], False, "logits"),
    "softmax of a softmax": ([SOFTMAX, SOFTMAX], False, "probabilities"),
}


@pytest.mark.parametrize("case", CASES)
def test_kind(case: str) -> None:
    ends, image, expected = CASES[case]
    assert output_kind(classifier(*ends, image=image)) == expected


def joined(*kinds: str) -> Graph:
    """Several heads, one behind the other in the output."""
    graph = classifier()
    heads = [Node(kind, ("n0",), f"h{i}", {"axis": 1} if "max" in kind else {}) for i, kind in enumerate(kinds)]
    whole = Node("Concat", tuple(head.output for head in heads), "y", {"axis": 1})
    return Graph("g", graph.input, ("y",), (*graph.nodes, *heads, whole), graph.parameters).verify()


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("Sigmoid", "HardSwish"), "logits"),
        (("Sigmoid", "Sigmoid"), "labels"),
        (("Softmax", "Softmax"), "labels"),  # each sums to 1: together they are no distribution
        (("Softmax", "Sigmoid"), "labels"),
    ],
)
def test_heads_joined(kinds: tuple[str, ...], expected: str) -> None:
    assert output_kind(joined(*kinds)) == expected


def test_any_tensor_can_be_asked_for() -> None:
    graph = joined("Sigmoid", "Softmax")
    assert [output_kind(graph, name) for name in ("n0", "h0", "h1")] == ["logits", "labels", "probabilities"]
