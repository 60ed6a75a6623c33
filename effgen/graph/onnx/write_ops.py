"""Operators of the Graph that ONNX says otherwise: with constant inputs, or as several nodes.

Constants go by names that say what they hold, so that equal ones are one initialiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from effgen.graph import Graph, Node, Weights
from effgen.graph.codes import Grid
from effgen.graph.ops import CODES, Shape, floats, integer, ints, number, text

#: Read by every current runtime. What needs a later one brings it: `opset_of`.
OPSET = 17

#: Modes of Resize that are younger than `OPSET`.
_YOUNG_COORDINATES = ("half_pixel_symmetric",)


def opset_of(graph: Graph) -> int:
    """The oldest opset from `OPSET` on that says all of a graph; of codes the one that most runtimes compute with."""
    if graph.codes or any(parameter.grid for parameter in graph.parameters.values()):
        return 21
    resizes = [node.attributes for node in graph.nodes if node.op_type == "Resize"]
    if any(attributes["coordinate_transformation_mode"] in _YOUNG_COORDINATES for attributes in resizes):
        return 19
    return 18 if any(attributes.get("antialias", 0) for attributes in resizes) else OPSET


class OnnxNodes:
    """The nodes of a graph, its parameters, and the constants that nodes take as inputs.

    Parameters that are stored as codes are written as such, each with a DequantizeLinear.
    """

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph, self.opset = graph, opset_of(graph)
        self.constants: dict[str, NDArray[Any]] = {}
        self.parameters: dict[str, NDArray[Any]] = {}
        self.protos = [proto for name in graph.parameters for proto in self.parameter(name, weights[name])]
        self.protos += [proto for node in graph.nodes for proto in self.of(node)]

    @property
    def initializers(self) -> list[onnx.TensorProto]:
        """Parameters in their order, then the constants in that of their names."""
        arrays = [*self.parameters.items(), *sorted(self.constants.items())]
        return [numpy_helper.from_array(array, name) for name, array in arrays]

    def parameter(self, name: str, array: NDArray[np.float32]) -> list[onnx.NodeProto]:
        """Keep a parameter; what makes numbers of its codes."""
        grid = self.graph.parameters[name].grid
        codes = None if grid is None else grid.codes_of(array)
        if grid is None or codes is None:
            self.parameters[name] = array
            return []
        stored = f"{name}.codes"
        self.parameters[stored] = codes.astype(grid.type)
        return [proto("DequantizeLinear", [stored, *self.grid(name, grid)], name, axis=grid.axis)]

    def grid(self, name: str, grid: Grid) -> list[str]:
        """Scale and zero point as constants: a number each, or a list for this tensor alone."""
        zeros, scales = np.array(grid.zero_point, grid.type), np.array(grid.scale, np.float32)
        names = [f"{name}.scale", f"{name}.zero_point"]
        if len(grid.scale) == 1:
            scales, zeros = scales.reshape(()), zeros.reshape(())
            names = [f"scale.{grid.scale[0]}", f"zero_point.{grid.type}.{grid.zero_point[0]}"]
        self.constants |= dict(zip(names, (scales, zeros), strict=True))
        return names

    def of(self, node: Node) -> list[onnx.NodeProto]:
        return _WRITERS.get(node.op_type, _as_it_is)(self, node)

    def whole(self, numbers: Shape) -> str:
        """A constant list of whole numbers."""
        name = f"numbers.{'x'.join(map(str, numbers))}"
        self.constants[name] = np.array(numbers, np.int64)
        return name

    def real(self, value: float, kind: str = "number") -> str:
        """A constant number."""
        self.constants[f"{kind}.{value}"] = np.array(value, np.float32)
        return f"{kind}.{value}"

    def beside(self, node: Node, value: float, kind: str) -> str:
        """A constant number of the type of what the node computes with, at the bounds of codes where it lies beyond."""
        codes = self.graph.codes.get(node.output)
        if codes is None:
            return self.real(value, kind)
        name = f"{kind}.{codes}.{value}"
        self.constants[name] = np.array(np.clip(value, *CODES[codes]), codes)
        return name


def proto(op_type: str, inputs: Any, output: str, **attributes: Any) -> onnx.NodeProto:
    """A node, named as its output."""
    return helper.make_node(op_type, list(inputs), [output], name=output, **attributes)


def _as_it_is(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    return [proto(node.op_type, node.inputs, node.output, **node.attributes)]


def _swish(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    gate = f"{node.output}.sigmoid"
    return [proto("Sigmoid", node.inputs, gate), proto("Mul", [*node.inputs, gate], node.output)]


def _mish(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    soft, gate = f"{node.output}.softplus", f"{node.output}.tanh"
    return [
        proto("Softplus", node.inputs, soft),
        proto("Tanh", [soft], gate),
        proto("Mul", [*node.inputs, gate], node.output),
    ]


def _gelu(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    """x * (1 + curve) / 2. ONNX has an operator for it from opset 20 on only."""
    (x,), out = node.inputs, node.output
    if text(node.attributes, "approximate") == "none":
        scaled, curve = f"{out}.scaled", "Erf"
        found = [proto("Mul", [x, nodes.real(1 / math.sqrt(2))], scaled)]
    else:
        scaled, curve = f"{out}.scaled", "Tanh"
        square, cube, small, sum_ = (f"{out}.{part}" for part in ("square", "cube", "small", "sum"))
        found = [
            proto("Mul", [x, x], square),
            proto("Mul", [square, x], cube),
            proto("Mul", [cube, nodes.real(0.044715)], small),
            proto("Add", [x, small], sum_),
            proto("Mul", [sum_, nodes.real(math.sqrt(2 / math.pi))], scaled),
        ]
    bent, raised, product = (f"{out}.{part}" for part in ("curve", "raised", "product"))
    return [
        *found,
        proto(curve, [scaled], bent),
        proto("Add", [bent, nodes.real(1.0)], raised),
        proto("Mul", [x, raised], product),
        proto("Mul", [product, nodes.real(0.5)], out),
    ]


def _clip(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    bounds = [nodes.beside(node, number(node.attributes, key), "clip") for key in ("min", "max")]
    return [proto("Clip", [*node.inputs, *bounds], node.output)]


def _slice(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    """Before the first element ONNX counts as the most negative number."""
    axes, starts, ends, steps = (ints(node.attributes, key) for key in ("axes", "starts", "ends", "steps"))
    far = tuple(end if end >= 0 else np.iinfo(np.int32).min for end in ends)
    found = [nodes.whole(starts), nodes.whole(far), nodes.whole(axes)]
    return [proto("Slice", [*node.inputs, *found, *([nodes.whole(steps)] if set(steps) != {1} else [])], node.output)]


def _with_shape(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    return [proto(node.op_type, [*node.inputs, nodes.whole(ints(node.attributes, "shape"))], node.output)]


def _shuffle(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    n, c, h, w = nodes.graph.values[node.output].shape
    group = integer(node.attributes, "group", 1)
    split, swapped = f"{node.output}.split", f"{node.output}.swapped"
    return [
        proto("Reshape", [*node.inputs, nodes.whole((n, group, c // group, h, w))], split),
        proto("Transpose", [split], swapped, perm=(0, 2, 1, 3, 4)),
        proto("Reshape", [swapped, nodes.whole((n, c, h, w))], node.output),
    ]


def _pad(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    inputs = [*node.inputs, nodes.whole(ints(node.attributes, "pads"))]
    mode = text(node.attributes, "mode")
    if mode == "constant":
        inputs.append(nodes.beside(node, number(node.attributes, "value"), "number"))
    return [proto("Pad", inputs, node.output, mode=mode)]


def _reduce(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    """Axes are an input of ReduceSum from opset 13 on, of the others from 18 on."""
    axes, keepdims = ints(node.attributes, "axes"), integer(node.attributes, "keepdims", 1)
    if node.op_type == "ReduceSum" or nodes.opset >= 18:
        return [proto(node.op_type, [*node.inputs, nodes.whole(axes)], node.output, keepdims=keepdims)]
    return [proto(node.op_type, node.inputs, node.output, axes=axes, keepdims=keepdims)]


def _resize(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    """By sizes where the same scales are computed from them, else by scales, whose products runtimes round down."""
    attributes: dict[str, Any] = dict(node.attributes)
    sizes, scales = attributes.pop("sizes"), attributes.pop("scales")
    data = nodes.graph.values[node.inputs[0]].shape
    if any(np.float32(m) / np.float32(n) != np.float32(s) for n, s, m in zip(data[2:], scales, sizes, strict=True)):
        name = f"scales.{'x'.join(map(str, scales))}"
        nodes.constants[name] = np.array([1, 1, *scales], np.float32)
        return [proto("Resize", [*node.inputs, "", name], node.output, **attributes)]
    return [proto("Resize", [*node.inputs, "", "", nodes.whole((*data[:2], *sizes))], node.output, **attributes)]


def _pool(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    attributes: dict[str, Any] = dict(node.attributes)
    if "beyond" in attributes:
        top, left, bottom, right = attributes["pads"]
        down, across = attributes.pop("beyond")
        attributes |= {"pads": (top, left, bottom - down, right - across), "ceil_mode": 1}
    return [proto(node.op_type, node.inputs, node.output, **attributes)]


def _of_codes(nodes: OnnxNodes, node: Node) -> list[onnx.NodeProto]:
    attributes = node.attributes
    zeros, axis = ints(attributes, "zero_point"), integer(attributes, "axis", 0)
    grid = Grid(floats(attributes, "scale"), zeros, axis, text(attributes, "type"))
    return [proto(node.op_type, [*node.inputs, *nodes.grid(node.output, grid)], node.output, axis=axis)]


_WRITERS: Mapping[str, Callable[[OnnxNodes, Node], list[onnx.NodeProto]]] = {
    "AveragePool": _pool,
    "ChannelShuffle": _shuffle,
    "Clip": _clip,
    "DequantizeLinear": _of_codes,
    "Expand": _with_shape,
    "Gelu": _gelu,
    "MaxPool": _pool,
    "Mish": _mish,
    "Pad": _pad,
    "QuantizeLinear": _of_codes,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "Reshape": _with_shape,
    "Resize": _resize,
    "Slice": _slice,
    "Swish": _swish,
}
