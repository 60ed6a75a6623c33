"""Sums and products of tensors and constants, linear layers, batch norms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from effgen.errors import GraphError
from effgen.graph.onnx.reader import AnyArray, Converter, OnnxNode, Reader
from effgen.graph.ops import Shape


def add(reader: Reader, node: OnnxNode) -> None:
    data, constant, _ = _operands(reader, node)
    if constant is None:
        reader.emit("Add", data, node.output)
    else:
        _with_constant(reader, "Add", data[0], constant, node)


def multiply(reader: Reader, node: OnnxNode) -> None:
    data, constant, _ = _operands(reader, node)
    if constant is None:
        reader.emit("Mul", data, node.output)
    else:
        _with_constant(reader, "Mul", data[0], constant, node)


def subtract(reader: Reader, node: OnnxNode) -> None:
    """`x - c` is `x + (-c)`; `c - x` and `x - y` need a product with -1."""
    data, constant, first = _operands(reader, node)
    if constant is not None and not first:
        _with_constant(reader, "Add", data[0], -constant, node)
        return
    minus_one = reader.parameter("minus_one", np.full((1,) * _rank(reader, data[-1]), -1, np.float32), "constant")
    negated = reader.emit("Mul", [data[-1], minus_one], f"{node.output}.negated")
    if constant is None:
        reader.emit("Add", [data[0], negated], node.output)
    else:
        _with_constant(reader, "Add", negated, constant, node)


def divide(reader: Reader, node: OnnxNode) -> None:
    """By a constant it is a product."""
    data, constant, first = _operands(reader, node)
    if constant is None or first or not np.all(constant):
        raise GraphError("expected a division by a constant other than 0")
    _with_constant(reader, "Mul", data[0], (1.0 / constant.astype(np.float64)).astype(np.float32), node)


def gemm(reader: Reader, node: OnnxNode) -> None:
    """`alpha` and `beta` go into weight and bias, a weight [in, out] is transposed."""
    if node.attributes.get("transA", 0):
        raise GraphError("transA = 1: expected the data as it is")
    weight, transposed = reader.constant(node, 1, "its weight"), node.attributes.get("transB", 0)
    data = _matrix(reader, node.inputs[0])
    name = node.inputs[1]
    if not transposed:
        weight, name = np.ascontiguousarray(weight.T), f"{name}.transposed"
    inputs = [data, reader.parameter(name, _scaled(weight, node.attributes.get("alpha", 1.0)), "kernel")]
    if reader.has_input(node, 2):
        bias = _scaled(reader.constant(node, 2, "its bias"), node.attributes.get("beta", 1.0))
        if bias.ndim > 1 and bias.size != bias.shape[-1]:
            raise GraphError(f"bias of shape {bias.shape}: expected a number for each output")
        row = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (weight.shape[0],)))
        inputs.append(reader.parameter(node.inputs[2], row, "bias"))
    reader.emit("Gemm", inputs, node.output, transB=1)


def matmul(reader: Reader, node: OnnxNode) -> None:
    """With a constant on the right: a linear layer without a bias."""
    weight = reader.constant(node, 1, "the right side")
    if weight.ndim != 2:
        raise GraphError(f"the right side has shape {weight.shape}: expected a weight [in, out]")
    name = reader.parameter(f"{node.inputs[1]}.transposed", np.ascontiguousarray(weight.T), "kernel")
    reader.emit("Gemm", [_matrix(reader, node.inputs[0]), name], node.output, transB=1)


def batch_norm(reader: Reader, node: OnnxNode) -> None:
    if node.attributes.get("training_mode", 0):
        raise GraphError("training_mode = 1: expected a model exported for inference")
    if len(outputs := [name for name in node.outputs if name]) > 1:
        # Before opset 14 that alone says training; since then only training has them.
        raise GraphError(f"{len(outputs)} outputs, as in training: expected a model exported for inference")
    inputs = [reader.tensor(node.inputs[0])]
    for index, role in enumerate(("norm_scale", "norm_bias", "norm_mean", "norm_var"), start=1):
        array = reader.constant(node, index, role)
        inputs.append(reader.parameter(node.inputs[index], array, role))  # type: ignore[arg-type]
    reader.emit("BatchNormalization", inputs, node.output, epsilon=shortest(node.attributes.get("epsilon", 1e-5)))


CONVERTERS: Mapping[str, Converter] = {
    "Add": add,
    "Mul": multiply,
    "Sub": subtract,
    "Div": divide,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
}


def shortest(value: float) -> float:
    """ONNX keeps float32; the writer meant the shortest decimal that rounds to it: 1e-5, not 9.99999975e-06."""
    return float(str(np.float32(value)))


def _operands(reader: Reader, node: OnnxNode) -> tuple[list[str], NDArray[np.float32] | None, bool]:
    """The tensors among two operands, the constant if one is, and whether that comes first."""
    constant, first = None, False
    data = []
    for index, name in enumerate(node.inputs):
        if reader.is_constant(name):
            constant, first = reader.constants[name], index == 0
            if constant.dtype != np.float32:
                raise GraphError(f"a constant of type {constant.dtype}: expected float32")
        else:
            data.append(reader.tensor(name))
    return data, constant, first


def _with_constant(reader: Reader, op_type: str, data: str, constant: AnyArray, node: OnnxNode) -> None:
    """`data` (op) `constant`, which gets the data's rank; left out where it changes nothing."""
    rank = _rank(reader, data)
    while constant.ndim > rank and constant.shape[0] == 1:
        constant = constant[0]
    if constant.ndim > rank:
        raise GraphError(f"a constant of shape {constant.shape} with data of {rank} axes: expected no more axes")
    if np.all(constant == (0 if op_type == "Add" else 1)) and _fits(constant.shape, reader.values[data].shape):
        reader.alias(node.output, data)
        return
    constant = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    named = next(name for name in node.inputs if reader.is_constant(name))
    reader.emit(op_type, [data, reader.parameter(named, constant, "constant")], node.output)


def _fits(constant: Shape, data: Shape) -> bool:
    """Whether the data keeps its shape with a constant of this one."""
    try:
        return np.broadcast_shapes(constant, data) == data
    except ValueError:
        return False


def _rank(reader: Reader, data: str) -> int:
    return len(reader.values[data].shape)


def _matrix(reader: Reader, name: str) -> str:
    data = reader.tensor(name)
    if len(reader.values[data].shape) != 2:
        raise GraphError(f"data of shape {reader.values[data].shape}: expected (batch, features)")
    return data


def _scaled(array: AnyArray, factor: float) -> AnyArray:
    return array if factor == 1 else (array.astype(np.float64) * factor).astype(array.dtype)
