"""Graph -> ONNX. The file is a stop on the way that others can use: what is compiled is what was exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from effgen.graph import Graph, Node, Value, Weights, check_weights
from effgen.graph.ops import Shape, number
from effgen.runtime.manifest import EXTERNAL_SUFFIX
from effgen.version import __version__

#: Swish has an operator of its own from opset 24 on only; 17 is read by every current runtime.
OPSET = 17
IR_VERSION = 8

#: The axes that Slice takes channels along.
_CHANNELS = (1,)

#: A protobuf message cannot exceed 2 GiB; above this weights go to a file of their own (room left for the graph).
EXTERNAL_ABOVE_BYTES = 2**31 - 2**24


def onnx_from_graph(graph: Graph, weights: Weights, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """The model with its weights inside: input and output names, shapes and node names are the graph's."""
    check_weights(graph, weights)
    body = helper.make_graph(
        nodes=[proto for node in graph.nodes for proto in _protos_from_node(node, graph)],
        name=graph.name,
        inputs=[_value_info(graph.input)],
        outputs=[_value_info(graph.values[name]) for name in graph.outputs],
        initializer=[numpy_helper.from_array(weights[name], name) for name in graph.parameters]
        + _clip_bounds(graph)
        + _numbers(graph),
        value_info=[_value_info(graph.values[node.output]) for node in graph.nodes if node.output not in graph.outputs],
    )
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="effgen",
        producer_version=__version__,
    )
    if metadata:
        helper.set_model_props(model, dict(metadata))
    return model


def save_onnx(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write and fully check the model; returns the files written (two where weights exceed protobuf's 2 GiB).

    Of a model over that limit the weights are moved, not copied, to the file: the message keeps references to it.
    """
    weight_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weight_bytes <= EXTERNAL_ABOVE_BYTES:
        onnx.save_model(model, path, format="protobuf")
        onnx.checker.check_model(str(path), full_check=True)
        return [path]
    data = path.with_name(path.name + EXTERNAL_SUFFIX)
    data.unlink(missing_ok=True)  # onnx appends to a file that is there
    onnx.save_model(model, path, "protobuf", save_as_external_data=True, location=data.name, size_threshold=1024)
    onnx.checker.check_model(str(path), full_check=True)
    return [path, data]


def _value_info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, value.shape)


def _protos_from_node(node: Node, graph: Graph) -> list[onnx.NodeProto]:
    if node.op_type == "Swish":
        gate = f"{node.output}.sigmoid"
        return [_proto("Sigmoid", node.inputs, gate), _proto("Mul", [*node.inputs, gate], node.output)]
    if node.op_type == "Clip":
        bounds = [_bound_name(number(node.attributes, key)) for key in ("min", "max")]
        return [_proto("Clip", [*node.inputs, *bounds], node.output)]
    if node.op_type == "Slice":
        start, end = (_numbers_name((int(number(node.attributes, key)),)) for key in ("start", "end"))
        return [_proto("Slice", [*node.inputs, start, end, _numbers_name(_CHANNELS)], node.output)]
    if node.op_type == "ChannelShuffle":
        return _shuffle(node, graph.values[node.output].shape)
    attributes: dict[str, Any] = dict(node.attributes)
    if "beyond" in attributes:
        top, left, bottom, right = attributes["pads"]
        down, across = attributes.pop("beyond")
        attributes |= {"pads": (top, left, bottom - down, right - across), "ceil_mode": 1}
    return [_proto(node.op_type, node.inputs, node.output, **attributes)]


def _shuffle(node: Node, shape: Shape) -> list[onnx.NodeProto]:
    split, swapped = f"{node.output}.split", f"{node.output}.swapped"
    return [
        _proto("Reshape", [*node.inputs, _numbers_name(_split_shape(node, shape))], split),
        _proto("Transpose", [split], swapped, perm=(0, 2, 1, 3, 4)),
        _proto("Reshape", [swapped, _numbers_name(shape)], node.output),
    ]


def _split_shape(node: Node, shape: Shape) -> Shape:
    n, c, h, w = shape
    group = int(number(node.attributes, "group"))
    return (n, group, c // group, h, w)


def _numbers_name(numbers: Shape) -> str:
    return f"numbers.{'x'.join(map(str, numbers))}"


def _numbers(graph: Graph) -> list[onnx.TensorProto]:
    """Shapes, channels' numbers and axes that operators take as inputs: one initialiser for each."""
    lists: set[Shape] = set()
    for node in graph.nodes:
        if node.op_type == "Slice":
            lists |= {(int(number(node.attributes, key)),) for key in ("start", "end")} | {_CHANNELS}
        elif node.op_type == "ChannelShuffle":
            shape = graph.values[node.output].shape
            lists |= {_split_shape(node, shape), shape}
    return [numpy_helper.from_array(np.array(numbers, np.int64), _numbers_name(numbers)) for numbers in sorted(lists)]


def _proto(op_type: str, inputs: Any, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, list(inputs), [output], name=output, **attributes)


def _bound_name(bound: float) -> str:
    return f"clip.{bound}"


def _clip_bounds(graph: Graph) -> list[onnx.TensorProto]:
    """Clip takes its bounds as inputs: one scalar initialiser for each distinct bound."""
    clips = [node.attributes for node in graph.nodes if node.op_type == "Clip"]
    bounds = {number(attributes, key) for attributes in clips for key in ("min", "max")}
    return [numpy_helper.from_array(np.array(bound, np.float32), _bound_name(bound)) for bound in sorted(bounds)]
