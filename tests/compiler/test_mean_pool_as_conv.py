"""A mean of windows as a depthwise convolution: PyTorch computes the same for both."""

from typing import Any

import pytest
from networks import noise, relative_error

from effgen.compiler.mean_pool_as_conv import mean_pool_as_conv
from effgen.graph import GraphBuilder, Value
from effgen.graph.reference import run_reference


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"pads": (0, 0, 0, 0), "count_include_pad": 0}, ["Relu", "Conv", "Sigmoid"]),
        ({"pads": (1, 1, 1, 1), "count_include_pad": 1}, ["Relu", "Conv", "Sigmoid"]),
        ({"pads": (1, 0, 2, 1), "count_include_pad": 0}, ["Relu", "Conv", "Mul", "Sigmoid"]),
        ({"pads": (1, 0, 2, 1), "count_include_pad": 1, "beyond": (1, 0)}, ["Relu", "Conv", "Mul", "Sigmoid"]),
    ],
)
def test_computes_the_same(attributes: dict[str, Any], expected: list[str]) -> None:
    b = GraphBuilder("pools", Value("x", (2, 5, 8, 9)))
    pool = b.add("AveragePool", [b.add("Relu", ["x"], "r")], "p", kernel_shape=(3, 2), strides=(2, 1), **attributes)
    graph = b.finish(b.add("Sigmoid", [pool], "y"))
    rewritten, weights = mean_pool_as_conv(graph, {})
    assert [node.op_type for node in rewritten.nodes] == expected
    image = noise((2, 5, 8, 9))
    assert relative_error(run_reference(rewritten, weights, image), run_reference(graph, {}, image)) < 1e-6
