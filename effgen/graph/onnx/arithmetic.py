"""Sums and products of tensors and constants, linear layers, batch norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from effgen.errors import GraphError
from effgen.graph.onnx.reader import AnyArray, Converter, OnnxNode, Reader
from effgen.graph.ops import Shape


def shortest(value: float) -> float:
    """ONNX keeps float32; the writer meant the shortest decimal that rounds to it: 1e-5, not 9.99999975e-06."""
    return float(str(np.float32(value)))


def like_data(reader: Reader, names: Sequence[str], rank: int, output: str) -> list[str]:
    """Tensors and constants of the file as operands of `rank` axes: those that lack some get them in front, of size 1.

    Raises GraphError for one that has more.
    """
    found = []
    for index, name in enumerate(names):
        shape = reader.shape(name)
        if len(shape) > rank:
            raise GraphError(f"a tensor of shape {shape}: expected no more than {rank} axes")
        shape = (1,) * (rank - len(shape)) + shape
        if reader.is_constant(name):
            found.append(reader.parameter(name, reader.constants[name].reshape(shape), "constant"))
        else:
            found.append(reader.reshaped(reader.tensor(name), shape, f"{output}.operand{index}"))
    return found


def binary(reader: Reader, node: OnnxNode) -> None:
    """Of two tensors or a tensor and a constant; a sum with 0 and a product with 1 are left out."""
    _combined(reader, node.op_type, node.inputs, node.output)


def total(reader: Reader, node: OnnxNode) -> None:
    """Sum of any number of tensors."""
    if len(node.inputs) == 1:
        reader.alias(node.output, reader.tensor(node.inputs[0]))
        return
    left = node.inputs[0]
    for index, right in enumerate(node.inputs[1:], start=1):
        last = index == len(node.inputs) - 1
        name = node.output if last else reader.fresh(f"{node.output}.{index}")
        if reader.is_constant(left) and reader.is_constant(right):
            reader.constants[name] = reader.constants[left] + reader.constants[right]
        else:
            _combined(reader, "Add", [left, right], name)
        left = name


def subtract(reader: Reader, node: OnnxNode) -> None:
    """`x - c` is `x + (-c)`, which a layer beside it may take."""
    if reader.is_constant(name := node.inputs[1]):
        negative = f"{name}.negative"
        reader.constants[negative] = -reader.float32(name, reader.constants[name])
        _combined(reader, "Add", [node.inputs[0], negative], node.output)
    else:
        _combined(reader, "Sub", node.inputs, node.output)


def divide(reader: Reader, node: OnnxNode) -> None:
    """By a constant it is a product, which a layer beside it may take."""
    name = node.inputs[1]
    if reader.is_constant(name) and np.all(divisor := reader.float32(name, reader.constants[name])):
        inverse = f"{name}.inverse"
        reader.constants[inverse] = (1.0 / divisor.astype(np.float64)).astype(np.float32)
        _combined(reader, "Mul", [node.inputs[0], inverse], node.output)
    else:
        _combined(reader, "Div", node.inputs, node.output)


def power(reader: Reader, node: OnnxNode) -> None:
    """Squares, roots and reciprocals have operators of their own."""
    exponent = reader.constants.get(node.inputs[1])
    known = float(exponent.item()) if exponent is not None and exponent.size == 1 else None
    if (
        known is None
        or reader.is_constant(node.inputs[0])
        or exponent is None
        or exponent.ndim > len(reader.shape(node.inputs[0]))
    ):
        _combined(reader, "Pow", node.inputs, node.output)
        return
    data = reader.tensor(node.inputs[0])
    if known == 1:
        reader.alias(node.output, data)
    elif known == 2:
        reader.emit("Mul", [data, data], node.output)
    elif known == 3:
        square = reader.emit("Mul", [data, data], reader.fresh(f"{node.output}.square"))
        reader.emit("Mul", [square, data], node.output)
    elif known == 0.5:
        reader.emit("Sqrt", [data], node.output)
    elif known == -1:
        reader.emit("Reciprocal", [data], node.output)
    else:
        reader.constants[f"{node.output}.exponent"] = np.full((1,) * reader.rank(data), known, np.float32)
        _combined(reader, "Pow", [node.inputs[0], f"{node.output}.exponent"], node.output)


def gemm(reader: Reader, node: OnnxNode) -> None:
    """A linear layer where the weight is constant: `alpha`, `beta` and a transposition go into it. Else a MatMul."""
    alpha, beta = (float(node.attributes.get(key, 1.0)) for key in ("alpha", "beta"))
    if reader.is_constant(node.inputs[1]) and not reader.is_constant(node.inputs[0]):
        weight = reader.constants[node.inputs[1]]
        transposed = bool(node.attributes.get("transB", 0))
        data = _turned(reader, _matrix(reader, node.inputs[0]), bool(node.attributes.get("transA", 0)), node.output)
        bias = _bias(reader, node, beta, weight.shape[0 if transposed else 1])
        kept = node.output if bias is not None or not reader.has_input(node, 2) else f"{node.output}.product"
        _linear(reader, data, node.inputs[1], _scaled(weight, alpha), transposed, bias, kept)
    else:
        left, right = (
            _turned(reader, reader.operand(name), bool(node.attributes.get(key, 0)), f"{node.output}.{key}")
            for name, key in zip(node.inputs[:2], ("transA", "transB"), strict=True)
        )
        kept = f"{node.output}.product" if alpha != 1 or reader.has_input(node, 2) else node.output
        reader.emit("MatMul", [left, right], kept)
        if alpha != 1:
            reader.constants[f"{node.output}.alpha"] = np.full((1, 1), alpha, np.float32)
            scaled = f"{node.output}.scaled" if reader.has_input(node, 2) else node.output
            _combined(reader, "Mul", [kept, f"{node.output}.alpha"], scaled)
            kept = scaled
    if kept != node.output:
        _add_scaled(reader, node, kept, beta)


def _bias(reader: Reader, node: OnnxNode, beta: float, outputs: int) -> tuple[str, AnyArray] | None:
    """A constant bias with a number for each output, or None."""
    if not reader.has_input(node, 2) or not reader.is_constant(node.inputs[2]):
        return None
    bias = _scaled(reader.constants[node.inputs[2]], beta)
    if bias.size not in (1, bias.shape[-1] if bias.ndim else 1) or bias.size not in (1, outputs):
        return None
    return node.inputs[2], np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (outputs,)))


def _add_scaled(reader: Reader, node: OnnxNode, product: str, beta: float) -> None:
    """What a Gemm adds that is no bias."""
    other = node.inputs[2]
    if beta != 1:
        reader.constants[f"{node.output}.beta"] = np.array(beta, np.float32)
        _combined(reader, "Mul", [other, f"{node.output}.beta"], f"{node.output}.term")
        other = f"{node.output}.term"
    _combined(reader, "Add", [product, other], node.output)


def _turned(reader: Reader, data: str, turn: bool, output: str) -> str:
    return reader.emit("Transpose", [data], reader.fresh(f"{output}.turned"), perm=(1, 0)) if turn else data


def _linear(
    reader: Reader,
    data: str,
    name: str,
    weight: AnyArray,
    transposed: bool,
    bias: tuple[str, AnyArray] | None,
    output: str,
) -> None:
    """Gemm of rows with a constant weight, `[out, in]` where it is transposed already."""
    if not transposed:
        weight, name = np.ascontiguousarray(weight.T), f"{name}.transposed"
    inputs = [data, reader.parameter(name, weight, "kernel")]
    if bias is not None:
        inputs.append(reader.parameter(*bias, "bias"))
    reader.emit("Gemm", inputs, output, transB=1)


def matmul(reader: Reader, node: OnnxNode) -> None:
    """With a constant matrix on the right a linear layer of all rows; else a product of stacks of matrices."""
    left, right = (reader.shape(name) for name in node.inputs)
    if not left or not right:
        raise GraphError(f"{left} and {right}: expected matrices or rows")
    if reader.is_constant(node.inputs[1]) and len(right) == 2 and not reader.is_constant(node.inputs[0]):
        rows = (int(np.prod(left[:-1])), left[-1])
        data = reader.reshaped(reader.tensor(node.inputs[0]), rows, f"{node.output}.rows")
        wanted = (*left[:-1], right[1])
        kept = node.output if len(left) == 2 else reader.fresh(f"{node.output}.product")
        _linear(reader, data, node.inputs[1], reader.constants[node.inputs[1]], False, None, kept)
        if kept != node.output:
            reader.emit("Reshape", [kept], node.output, shape=wanted)
        return
    _product(reader, node, left, right)


def _product(reader: Reader, node: OnnxNode, left: Shape, right: Shape) -> None:
    """A row on the left is a matrix of one row, one on the right a matrix of one column; its axis is dropped again."""
    shapes = [left if len(left) > 1 else (1, *left), right if len(right) > 1 else (*right, 1)]
    rank = max(len(shape) for shape in shapes)
    operands = []
    for index, (name, shape) in enumerate(zip(node.inputs, shapes, strict=True)):
        whole = (1,) * (rank - len(shape)) + shape
        if reader.is_constant(name):
            operands.append(reader.parameter(name, reader.constants[name].reshape(whole), "constant"))
        else:
            operands.append(reader.reshaped(reader.tensor(name), whole, f"{node.output}.operand{index}"))
    kept = node.output if len(left) > 1 and len(right) > 1 else reader.fresh(f"{node.output}.product")
    reader.emit("MatMul", operands, kept)
    if kept != node.output:
        full = reader.values[kept].shape
        wanted = (*full[:-2], *([full[-2]] if len(left) > 1 else []), *([full[-1]] if len(right) > 1 else []))
        reader.emit("Reshape", [kept], node.output, shape=wanted)


def batch_norm(reader: Reader, node: OnnxNode) -> None:
    if node.attributes.get("training_mode", 0):
        raise GraphError("training_mode = 1: expected a model exported for inference")
    if not node.attributes.get("spatial", 1):
        raise GraphError("spatial = 0: expected statistics a channel")
    if len(outputs := [name for name in node.outputs if name]) > 1:
        # Before opset 14 that alone says training; since then only training has them.
        raise GraphError(f"{len(outputs)} outputs, as in training: expected a model exported for inference")
    inputs = [reader.tensor(node.inputs[0])]
    for index, role in enumerate(("norm_scale", "norm_bias", "norm_mean", "norm_var"), start=1):
        array = reader.constant(node, index, role)
        inputs.append(reader.parameter(node.inputs[index], array, role))  # type: ignore[arg-type]
    reader.emit("BatchNormalization", inputs, node.output, epsilon=shortest(node.attributes.get("epsilon", 1e-5)))


CONVERTERS: Mapping[str, Converter] = {
    "Add": binary,
    "BatchNormalization": batch_norm,
    "Div": divide,
    "Gemm": gemm,
    "MatMul": matmul,
    "Mul": binary,
    "Pow": power,
    "Sub": subtract,
    "Sum": total,
}


def _combined(reader: Reader, op_type: str, names: Sequence[str], output: str) -> None:
    """`left (op) right` of tensors and constants of the file, of any ranks that broadcast."""
    rank = max(len(reader.shape(name)) for name in names)
    tensors = [name for name in names if not reader.is_constant(name)]
    if len(tensors) == 1:
        (data,) = tensors
        (constant,) = (name for name in names if reader.is_constant(name))
        if op_type in ("Add", "Mul") and _changes_nothing(
            reader, op_type, reader.constants[constant], reader.shape(data)
        ):
            reader.alias(output, reader.tensor(data))
            return
    operands = like_data(reader, names, rank, output)
    if op_type in ("Add", "Mul") and len(tensors) == 1 and reader.is_constant(names[0]):
        operands.reverse()  # the constant behind, where passes look for it
    reader.emit(op_type, operands, output)


def _changes_nothing(reader: Reader, op_type: str, constant: AnyArray, data: Shape) -> bool:
    """Whether a sum with zeros or a product with ones leaves the data as it is, its shape included."""
    if not np.all(constant == (0 if op_type == "Add" else 1)):
        return False
    try:
        return np.broadcast_shapes(constant.shape, data) == data
    except ValueError:
        return False


def _matrix(reader: Reader, name: str) -> str:
    data = reader.tensor(name)
    if reader.rank(data) != 2:
        raise GraphError(f"data of shape {reader.values[data].shape}: expected (batch, features)")
    return data


def _scaled(array: AnyArray, factor: float) -> NDArray[np.float32]:
    return array if factor == 1 else (array.astype(np.float64) * factor).astype(array.dtype)
