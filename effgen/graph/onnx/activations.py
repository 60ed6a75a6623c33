"""Functions of one element, and operators that do nothing when a network is run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from effgen.errors import GraphError
from effgen.graph.onnx.arithmetic import shortest
from effgen.graph.onnx.reader import Converter, OnnxNode, Reader

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def unary(reader: Reader, node: OnnxNode) -> None:
    reader.emit(node.op_type, [reader.tensor(node.inputs[0])], node.output)


def swish(reader: Reader, node: OnnxNode) -> None:
    alpha = node.attributes.get("alpha", 1.0)
    if alpha != 1:
        raise GraphError(f"alpha = {alpha:g}: expected 1")
    unary(reader, node)


def clip(reader: Reader, node: OnnxNode) -> None:
    """Without bounds it is nothing, from 0 on it is Relu."""
    low = max(-_FLOAT32_MAX, _bound(reader, node, "min", 1, -_FLOAT32_MAX))
    high = min(_FLOAT32_MAX, _bound(reader, node, "max", 2, _FLOAT32_MAX))
    source = reader.tensor(node.inputs[0])
    if (low, high) == (-_FLOAT32_MAX, _FLOAT32_MAX):
        reader.alias(node.output, source)
    elif (low, high) == (0.0, _FLOAT32_MAX):
        reader.emit("Relu", [source], node.output)
    else:
        reader.emit("Clip", [source], node.output, min=low, max=high)


def hard_sigmoid(reader: Reader, node: OnnxNode) -> None:
    alpha, beta = shortest(node.attributes.get("alpha", 0.2)), shortest(node.attributes.get("beta", 0.5))
    reader.emit("HardSigmoid", [reader.tensor(node.inputs[0])], node.output, alpha=alpha, beta=beta)


def leaky_relu(reader: Reader, node: OnnxNode) -> None:
    alpha = shortest(node.attributes.get("alpha", 0.01))
    reader.emit("LeakyRelu", [reader.tensor(node.inputs[0])], node.output, alpha=alpha)


def softmax(reader: Reader, node: OnnxNode) -> None:
    """Along the classes."""
    source = reader.tensor(node.inputs[0])
    axis = node.attributes.get("axis", 1 if reader.opset < 13 else -1)
    reader.emit("Softmax", [source], node.output, axis=axis % len(reader.values[source].shape))


def nothing(reader: Reader, node: OnnxNode) -> None:
    """Identity; Dropout in inference; Cast of what is float32 to float32."""
    if node.op_type == "Dropout" and reader.has_input(node, 2) and reader.number(node, 2, "training_mode"):
        raise GraphError("training_mode is true: expected a model exported for inference")
    if node.op_type == "Cast" and node.attributes["to"] != 1:
        raise GraphError("to another type than FLOAT: expected a network in float32")
    if node.inputs[0] in reader.pending:
        reader.wait(node.output, reader.pending[node.inputs[0]])
    else:
        reader.alias(node.output, reader.tensor(node.inputs[0]))


CONVERTERS: Mapping[str, Converter] = {
    "Relu": unary,
    "Sigmoid": unary,
    "HardSwish": unary,
    "Swish": swish,
    "Clip": clip,
    "HardSigmoid": hard_sigmoid,
    "LeakyRelu": leaky_relu,
    "Softmax": softmax,
    "Identity": nothing,
    "Dropout": nothing,
    "Cast": nothing,
}


def _bound(reader: Reader, node: OnnxNode, key: str, index: int, default: float) -> float:
    """A bound of Clip: an attribute before opset 11, else an input."""
    if key in node.attributes:
        return shortest(node.attributes[key])
    if not reader.has_input(node, index):
        return default
    return shortest(reader.number(node, index, key))
