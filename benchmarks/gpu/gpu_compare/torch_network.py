"""A network as plain data -> a PyTorch module whose forward is straight-line code, so that every peer gets it whole.

The data is `{"input": name, "output": name, "nodes": [{"op", "inputs", "output", "attributes"}]}` with ONNX's
operators as effgen's Graph has them (batch norms folded), and an array for each name that no node makes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.nn import functional

from gpu_compare import CompareError

#: A function that adds an operator to a graph: (graph, attributes, operands) -> the value.
Builder = Callable[..., fx.Node]


def module_from(network: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> torch.nn.Module:
    """The network as a float32 module on the CPU: images (batch, channels, height, width) -> logits (batch, classes).

    Raises CompareError for an operator that is not known, or a name that neither an array nor a node has.
    """
    root, graph = torch.nn.Module(), fx.Graph()
    values = {network["input"]: graph.placeholder("image")}
    for index, (name, array) in enumerate(arrays.items()):
        attribute = f"array_{index}"
        root.register_parameter(attribute, torch.nn.Parameter(torch.from_numpy(array), requires_grad=False))
        values[name] = graph.get_attr(attribute)
    for node in network["nodes"]:
        build = BUILDERS.get(node["op"])
        if build is None:
            raise CompareError(
                f"{node['output']}: operator {node['op']}: expected one of {', '.join(sorted(BUILDERS))}"
            )
        missing = [name for name in node["inputs"] if name not in values]
        if missing:
            raise CompareError(f"{node['output']}: input {missing[0]} is neither an array nor an earlier node's output")
        values[node["output"]] = build(graph, node["attributes"], *(values[name] for name in node["inputs"]))
    graph.output(values[network["output"]])
    return fx.GraphModule(root, graph).eval()


def _conv(graph: fx.Graph, attributes: Any, data: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> fx.Node:
    top, left, bottom, right = attributes["pads"]
    padding = (top, left)
    if (top, left) != (bottom, right):
        data = graph.call_function(functional.pad, (data, (left, right, top, bottom)))
        padding = (0, 0)
    settings = {"stride": tuple(attributes["strides"]), "padding": padding, "groups": attributes["group"]}
    return graph.call_function(functional.conv2d, (data, weight, bias), settings)


def _batchnorm(graph: fx.Graph, attributes: Any, x: fx.Node, *parameters: fx.Node) -> fx.Node:
    scale, shift, mean, var = parameters
    settings = {"training": False, "eps": attributes["epsilon"]}
    return graph.call_function(functional.batch_norm, (x, mean, var, scale, shift), settings)


def _hard_sigmoid(graph: fx.Graph, attributes: Any, x: fx.Node) -> fx.Node:
    scaled = graph.call_function(torch.mul, (x, attributes["alpha"]))
    return graph.call_function(torch.clamp, (graph.call_function(torch.add, (scaled, attributes["beta"])), 0.0, 1.0))


def _slice(graph: fx.Graph, attributes: Any, x: fx.Node) -> fx.Node:
    cuts = dict(zip(attributes["axes"], zip(attributes["starts"], attributes["ends"], strict=True), strict=True))
    if set(attributes["steps"]) != {1} or min(cuts) < 0:
        raise CompareError(f"Slice of axes {attributes['axes']}: expected axes from the front and steps of 1")
    whole = slice(None)
    taken = tuple(slice(*cuts[axis]) if axis in cuts else whole for axis in range(max(cuts) + 1))
    return graph.call_function(operator.getitem, (x, taken))


def _max_pool(graph: fx.Graph, attributes: Any, x: fx.Node) -> fx.Node:
    """Padded with what no value is below, on each side as told: max_pool2d itself pads both alike."""
    top, left, bottom, right = attributes["pads"]
    padded = graph.call_function(functional.pad, (x, (left, right, top, bottom), "constant", -math.inf))
    settings = {"stride": tuple(attributes["strides"]), "ceil_mode": False}
    return graph.call_function(functional.max_pool2d, (padded, tuple(attributes["kernel_shape"])), settings)


def _plain(function: Callable[..., Any]) -> Builder:
    return lambda graph, attributes, *operands: graph.call_function(function, operands)


#: Every operator of the shipped specs.
BUILDERS: Mapping[str, Builder] = {
    "Conv": _conv,
    "BatchNormalization": _batchnorm,
    "Gemm": _plain(functional.linear),
    "GlobalAveragePool": lambda graph, attributes, x: graph.call_function(torch.mean, (x, (2, 3), True)),
    "Flatten": lambda graph, attributes, x: graph.call_function(torch.flatten, (x, attributes["axis"])),
    "Add": _plain(torch.add),
    "Mul": _plain(torch.mul),
    "Sigmoid": _plain(torch.sigmoid),
    "Swish": _plain(functional.silu),
    "Relu": _plain(functional.relu),
    "Clip": lambda graph, attributes, x: graph.call_function(torch.clamp, (x, attributes["min"], attributes["max"])),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish),
    "Concat": lambda graph, attributes, *parts: graph.call_function(torch.cat, (parts, attributes["axis"])),
    "Slice": _slice,
    "MaxPool": _max_pool,
}
