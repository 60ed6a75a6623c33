"""What computing a node of constants would cost, told from its operands before any of it is computed.

A table of a few hundred bytes can ask for a result of any size: shapes, repeats, sizes and depths are numbers in it.
Every operator that is computed here has a bound of its result's elements; others are not computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

import onnx
from numpy.typing import NDArray
from onnx import helper

AnyArray: TypeAlias = NDArray[Any]

#: Bytes of a result's element, at most: numbers of 64 bits.
_WIDEST = 8

#: Bytes of one where Python computes it, as an object in a list.
_OBJECT = 64

#: Types of tensors that nothing is computed of.
_NO_NUMBERS = (onnx.TensorProto.STRING, onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)

#: How a Resize takes its sizes, if nothing else is said.
_STRETCH = b"stretch"

#: Operations of an element where ONNX's evaluator computes in Python: what a loop of its own takes, and a function that
#: is called for each.
_LOOP, _CALL = 10_000, 64


@dataclass(frozen=True)
class Cost:
    """Bytes of the results, and operations: about a nanosecond each."""

    bytes: int
    operations: int


@dataclass(frozen=True)
class _Operands:
    """A node's inputs (None: left out) and attributes."""

    inputs: Sequence[AnyArray | None]
    attributes: Mapping[str, Any]

    def __getitem__(self, index: int) -> AnyArray:
        """Raises LookupError where it is left out."""
        found = self.inputs[index]
        if found is None:
            raise LookupError(index)
        return found

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    @property
    def size(self) -> int:
        """Elements of all inputs."""
        return sum(array.size for array in self.inputs if array is not None)

    @property
    def are_numbers(self) -> bool:
        """Of 64 bits at most; texts have no size that is known before."""
        return all(array is None or array.dtype.kind not in "OSUc" for array in self.inputs)

    def numbers(self, index: int, key: str = "") -> list[float]:
        """What a small input, or else an attribute, says."""
        values = self[index].ravel().tolist() if self.has(index) else self.attributes[key]
        return [float(value) for value in values]


def cost_of(node: onnx.NodeProto, feeds: Mapping[str, AnyArray]) -> Cost | None:
    """A bound of what the node costs; None for one that is not computed here. Raises LookupError, TypeError, ValueError
    or ArithmeticError for a malformed one."""
    bound = _ELEMENTS.get(node.op_type)
    if bound is None:
        return None
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    operands = _Operands([feeds[name] if name else None for name in node.input], attributes)
    if not operands.are_numbers or attributes.get("to") in _NO_NUMBERS:
        return None
    elements = bound(operands)
    if not 0 <= elements < math.inf:
        raise ValueError(elements)
    work = _WORK[node.op_type](operands) if node.op_type in _WORK else elements
    each = _EACH.get(node.op_type, 1)
    bytes_each = _OBJECT if each > 1 else _WIDEST
    return Cost(math.ceil(elements) * bytes_each, math.ceil(each * (work + operands.size)))


def _product(numbers: Sequence[float]) -> float:
    """Infinity beyond what a float holds."""
    try:
        return float(math.prod(numbers))
    except OverflowError:
        return math.inf


def _broadcast(shapes: Sequence[Sequence[float]]) -> float:
    """Elements of the shape that they broadcast to, or more."""
    return _product([max(extents) for extents in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)])


def _elementwise(operands: _Operands) -> float:
    return _broadcast([array.shape for array in operands.inputs if array is not None])


def _no_more(operands: _Operands) -> float:
    return operands.size


def _twice(operands: _Operands) -> float:
    return 4 * operands.size


def _places(operands: _Operands) -> float:
    """A number for each axis."""
    return float(operands[0].size * max(1, operands[0].ndim))


def _stored(operands: _Operands) -> float:
    """Of Constant: what is in the file already."""
    return 0


def _of_shape(operands: _Operands) -> float:
    return _product(operands.numbers(0))


def _expand(operands: _Operands) -> float:
    return _broadcast([operands[0].shape, operands.numbers(1)])


def _tile(operands: _Operands) -> float:
    return operands[0].size * _product(operands.numbers(1))


def _pad(operands: _Operands) -> float:
    """As if every axis had all the pads."""
    pads = sum(abs(number) for number in operands.numbers(1, "pads"))
    return _product([extent + pads for extent in operands[0].shape])


def _range(operands: _Operands) -> float:
    start, limit, step = (float(operands[index].item()) for index in range(3))
    return max(0.0, (limit - start) / step) + 1


def _one_hot(operands: _Operands) -> float:
    return operands[0].size * max(0.0, *operands.numbers(1))


def _gather(operands: _Operands) -> float:
    data, indices = operands[0], operands[1]
    return float(indices.size * data.size / max(1, data.shape[operands.attributes.get("axis", 0)]))


def _gather_elements(operands: _Operands) -> float:
    return float(operands[1].size)


def _gather_nd(operands: _Operands) -> float:
    data, indices = operands[0], operands[1]
    batches = operands.attributes.get("batch_dims", 0)
    taken = indices.shape[-1]
    return float(indices.size / max(1, taken) * _product(data.shape[batches + taken :]))


def _resize(operands: _Operands) -> float:
    """By sizes, or scales: an input's place depends on the opset."""
    if "axes" in operands.attributes or operands.attributes.get("keep_aspect_ratio_policy", _STRETCH) != _STRETCH:
        raise ValueError("axes, or sizes that are not those of the result")
    shape = operands[0].shape
    asked = [array for array in operands.inputs[1:] if array is not None and array.size == len(shape)]
    sizes = bool(asked) and asked[-1].dtype.kind in "iu"
    numbers = asked[-1].ravel().tolist() if asked else operands.attributes["scales"]
    return _product([number * (1 if sizes else extent) for number, extent in zip(numbers, shape, strict=True)])


def _of_channels(operands: _Operands) -> float:
    """Further operands have a number for each of an axis, or one for all: others would stretch the first."""
    shape = operands[0].shape
    if operands.attributes.get("block_size", 0):
        raise ValueError("block_size")
    extent = shape[int(operands.attributes.get("axis", 1))]
    if any(other is not None and other.size not in (1, extent) for other in operands.inputs[1:]):
        raise ValueError(extent)
    return float(operands[0].size)


def _of_last_axes(operands: _Operands) -> float:
    """Further operands have the shape of the last axes."""
    shape = operands[0].shape
    if any(other is not None and other.shape != shape[len(shape) - other.ndim :] for other in operands.inputs[1:]):
        raise ValueError(shape)
    return float(operands[0].size)


def _dequantised(operands: _Operands) -> float:
    """A scale, and a zero point of its shape, for all, for each of an axis, or for each block along it."""
    x, scale = operands[0], operands[1]
    axis, block = int(operands.attributes.get("axis", 1)), int(operands.attributes.get("block_size", 0))
    zero = operands[2] if operands.has(2) else scale
    if not block:
        fits = scale.ndim <= 1 and scale.size in (1, x.shape[axis] if scale.size > 1 else 1)
    else:
        blocked = list(x.shape)
        blocked[axis] = -(-x.shape[axis] // block) if block > 0 else 0
        fits = list(scale.shape) == blocked and block <= max(1, x.shape[axis])
    if not fits or not (zero.shape == scale.shape or zero.size == scale.size == 1):
        raise ValueError(scale.shape)
    return float(2 * x.size + (2 * scale.size * block if block else 0))


def _matmul(operands: _Operands) -> float:
    return float(_matmul_work(operands) / max(1, operands[0].shape[-1]))


def _matmul_work(operands: _Operands) -> float:
    """Each row with each column, stacks broadcast."""
    one, other = operands[0], operands[1]
    inner = max(1, one.shape[-1])
    stacks = _broadcast([one.shape[:-2], other.shape[:-2]])
    rows = one.shape[-2] if one.ndim > 1 else 1
    columns = other.shape[-1] if other.ndim > 1 else 1
    return float(stacks * rows * inner * columns)


def _gemm(operands: _Operands) -> float:
    """A product of two matrices, and what is added has no more axes."""
    rows, _, columns = _gemm_extents(operands)
    added = operands[2].shape if operands.has(2) else ()
    if len(added) > 2:
        raise ValueError(added)
    return _broadcast([(rows, columns), added])


def _gemm_work(operands: _Operands) -> float:
    return _product(_gemm_extents(operands))


def _gemm_extents(operands: _Operands) -> tuple[int, int, int]:
    """Rows, terms of a sum, columns."""
    (rows, inner), (_, columns) = (
        array.shape[:: -1 if operands.attributes.get(turned) else 1]
        for array, turned in ((operands[0], "transA"), (operands[1], "transB"))
    )
    return rows, inner, columns


def _labels(operands: _Operands) -> tuple[str, dict[str, int]]:
    """The equation of an Einsum, and the extent of each of its letters. Raises ValueError for one with an ellipsis."""
    equation = operands.attributes["equation"].decode().replace(" ", "")
    words = equation.partition("->")[0].split(",")
    if "." in equation or len(words) != len(operands.inputs):
        raise ValueError(equation)
    extents: dict[str, int] = {}
    for index, word in enumerate(words):
        for letter, extent in zip(word, operands[index].shape, strict=True):
            extents[letter] = max(extent, extents.get(letter, 0))  # 1 is stretched
    return equation, extents


def _einsum(operands: _Operands) -> float:
    equation, extents = _labels(operands)
    _, explicit, result = equation.partition("->")
    return _product([extents[letter] for letter in (result if explicit else extents)])


def _einsum_work(operands: _Operands) -> float:
    return _product(list(_labels(operands)[1].values()))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ARITHMETIC = _names(
    "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Cos Div Equal Exp Floor "
    "Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal "
    "Relu Round Sigmoid Sign Sin Sqrt Sub Sum Tanh Where Xor"
)
_CALLED = _names(
    "Acos Acosh Asin Asinh Atan Atanh Celu Cosh Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Selu Sinh "
    "Softplus Softsign Swish Tan ThresholdedRelu"
)
_MOVED = _names(
    "ArgMax ArgMin Compress Concat CumSum DepthToSpace Dropout Flatten GlobalAveragePool GlobalMaxPool LogSoftmax "
    "LpNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare Reshape ScatterElements ScatterND Shape Size Slice Softmax SpaceToDepth Split Squeeze "
    "Transpose Trilu Unsqueeze"
)

_ELEMENTS: Mapping[str, Callable[[_Operands], float]] = {
    **dict.fromkeys((*_ARITHMETIC, *_CALLED), _elementwise),
    **dict.fromkeys(_MOVED, _no_more),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "QuantizeLinear"), _of_channels),
    "LayerNormalization": _of_last_axes,
    **dict.fromkeys(("TopK", "Unique"), _twice),
    "NonZero": _places,
    "Constant": _stored,
    "ConstantOfShape": _of_shape,
    "DequantizeLinear": _dequantised,
    "Einsum": _einsum,
    "Expand": _expand,
    "EyeLike": _no_more,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Resize": _resize,
    "Tile": _tile,
    "Upsample": _resize,
}

#: Operators whose work is more than their result.
_WORK: Mapping[str, Callable[[_Operands], float]] = {
    "Einsum": _einsum_work,
    "Gemm": _gemm_work,
    "MatMul": _matmul_work,
}

_EACH: Mapping[str, int] = {
    **dict.fromkeys((*_CALLED, "GatherElements", "ScatterElements", "ScatterND", "Unique"), _CALL),
    **dict.fromkeys(("Resize", "Upsample"), _LOOP),
}
