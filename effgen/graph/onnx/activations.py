"""Functions of one element, and operators that do nothing when a network is run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from effgen.errors import GraphError
from effgen.graph.onnx.arithmetic import like_data, shortest
from effgen.graph.onnx.reader import Converter, OnnxNode, Reader
from effgen.graph.ops import UNARY

_FLOAT32_MAX = float(np.finfo(np.float32).max)

#: Types that a network is cast to and computed in float32 all the same, by ONNX's numbers: FLOAT is nothing to say.
_FLOATS = {1: "", 10: "float16", 11: "float64", 16: "bfloat16"}


def unary(reader: Reader, node: OnnxNode) -> None:
    reader.emit(node.op_type, [reader.tensor(node.inputs[0])], node.output)


def swish(reader: Reader, node: OnnxNode) -> None:
    alpha = node.attributes.get("alpha", 1.0)
    if alpha != 1:
        raise GraphError(f"alpha = {alpha:g}: expected 1")
    unary(reader, node)


def clip(reader: Reader, node: OnnxNode) -> None:
    """Where the bounds cross, the upper one counts."""
    low, high = _bound(reader, node, "min", 1, -_FLOAT32_MAX), _bound(reader, node, "max", 2, _FLOAT32_MAX)
    clipped(reader, reader.tensor(node.inputs[0]), low, high, node.output)


def clipped(reader: Reader, source: str, low: float, high: float, output: str) -> None:
    """Without bounds it is nothing, from 0 on it is Relu."""
    high = min(_FLOAT32_MAX, high)
    low = min(max(-_FLOAT32_MAX, low), high)
    if (low, high) == (-_FLOAT32_MAX, _FLOAT32_MAX):
        reader.alias(output, source)
    elif (low, high) == (0.0, _FLOAT32_MAX):
        reader.emit("Relu", [source], output)
    else:
        reader.emit("Clip", [source], output, min=low, max=high)


def extreme(reader: Reader, node: OnnxNode) -> None:
    """Min and Max of any number of tensors; with one number it is a Clip."""
    numbers = [
        float(reader.constants[name].item())
        for name in node.inputs
        if reader.is_constant(name) and reader.constants[name].size == 1
    ]
    data = [name for name in node.inputs if not (reader.is_constant(name) and reader.constants[name].size == 1)]
    rank = max(len(reader.shape(name)) for name in node.inputs)
    found = like_data(reader, data, rank, node.output)
    for index, other in enumerate(found[1:], start=1):
        name = node.output if index == len(found) - 1 and not numbers else reader.fresh(f"{node.output}.{index}")
        found[0] = reader.emit(node.op_type, [found[0], other], name)
    if not numbers:
        reader.alias(node.output, found[0])
    elif node.op_type == "Min":
        clipped(reader, found[0], -_FLOAT32_MAX, min(numbers), node.output)
    else:
        clipped(reader, found[0], max(numbers), _FLOAT32_MAX, node.output)


def hard_sigmoid(reader: Reader, node: OnnxNode) -> None:
    alpha, beta = shortest(node.attributes.get("alpha", 0.2)), shortest(node.attributes.get("beta", 0.5))
    reader.emit("HardSigmoid", [reader.tensor(node.inputs[0])], node.output, alpha=alpha, beta=beta)


#: Operators with an attribute `alpha` -> its default.
_ALPHA = {"Celu": 1.0, "Elu": 1.0, "LeakyRelu": 0.01, "ThresholdedRelu": 1.0}


def with_alpha(reader: Reader, node: OnnxNode) -> None:
    alpha = shortest(node.attributes.get("alpha", _ALPHA[node.op_type]))
    reader.emit(node.op_type, [reader.tensor(node.inputs[0])], node.output, alpha=alpha)


def selu(reader: Reader, node: OnnxNode) -> None:
    alpha = shortest(node.attributes.get("alpha", 1.67326319217681884765625))
    gamma = shortest(node.attributes.get("gamma", 1.05070102214813232421875))
    reader.emit("Selu", [reader.tensor(node.inputs[0])], node.output, alpha=alpha, gamma=gamma)


def gelu(reader: Reader, node: OnnxNode) -> None:
    approximate = node.attributes.get("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise GraphError(f"approximate = {approximate}: expected none or tanh")
    reader.emit("Gelu", [reader.tensor(node.inputs[0])], node.output, approximate=approximate)


def prelu(reader: Reader, node: OnnxNode) -> None:
    data, slope = reader.tensor(node.inputs[0]), node.inputs[1]
    (slope,) = like_data(reader, [slope], reader.rank(data), node.output)
    reader.emit("PRelu", [data, slope], node.output)


def softmax(reader: Reader, node: OnnxNode) -> None:
    """Along an axis; before opset 13 along all axes from it on."""
    source = reader.tensor(node.inputs[0])
    shape = reader.values[source].shape
    axis = reader.axis(node.attributes.get("axis", 1 if reader.opset < 13 else -1), len(shape))
    if reader.opset >= 13 or int(np.prod(shape[axis + 1 :])) == 1:
        reader.emit(node.op_type, [source], node.output, axis=axis)
        return
    rows = (int(np.prod(shape[:axis])), int(np.prod(shape[axis:])))
    flat = reader.reshaped(source, rows, f"{node.output}.rows")
    done = reader.emit(node.op_type, [flat], reader.fresh(f"{node.output}.softmax"), axis=1)
    reader.emit("Reshape", [done], node.output, shape=shape)


def nothing(reader: Reader, node: OnnxNode) -> None:
    """Identity; Dropout in inference; Cast between floating-point types, all of which are computed in float32."""
    if node.op_type == "Dropout" and reader.has_input(node, 2) and reader.number(node, 2, "training_mode"):
        raise GraphError("training_mode is true: expected a model exported for inference")
    if node.op_type == "Cast":
        _check_cast(reader, node)
    reader.alias(node.output, reader.tensor(node.inputs[0]))


def _check_cast(reader: Reader, node: OnnxNode) -> None:
    kind = node.attributes["to"]
    if kind not in _FLOATS:
        raise GraphError("to a type of whole numbers: expected a network in float32")
    if _FLOATS[kind]:
        reader.note(f"what the file computes in {_FLOATS[kind]} is computed in float32")
        reader.reduced |= _FLOATS[kind] != "float64"


CONVERTERS: Mapping[str, Converter] = {
    **dict.fromkeys(UNARY, unary),
    "Cast": nothing,
    "CastLike": nothing,
    "Celu": with_alpha,
    "Clip": clip,
    "Dropout": nothing,
    "Elu": with_alpha,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "Identity": nothing,
    "LeakyRelu": with_alpha,
    "LogSoftmax": softmax,
    "Max": extreme,
    "Min": extreme,
    "PRelu": prelu,
    "Selu": selu,
    "Softmax": softmax,
    "Swish": swish,
    "ThresholdedRelu": with_alpha,
}


def _bound(reader: Reader, node: OnnxNode, key: str, index: int, default: float) -> float:
    """A bound of Clip: an attribute before opset 11, else an input."""
    if key in node.attributes:
        return shortest(node.attributes[key])
    if not reader.has_input(node, index):
        return default
    return shortest(reader.number(node, index, key))
