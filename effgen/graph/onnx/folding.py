"""Computing what depends on constants alone, within a budget of bytes and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from effgen.errors import GraphError

AnyArray: TypeAlias = NDArray[Any]

#: Operators whose result depends on nothing that is known here, or that hold graphs of their own.
_NOT_FOLDED = ("If", "Loop", "Scan", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike")

#: What a file's constants may take: bytes of all results together, and seconds of all computing.
MOST_BYTES, MOST_SECONDS = 2**30, 60.0

#: Operators whose work is more than their operands' sizes, and the most that the product of those may be: of two
#: matrices of 1,448 rows and columns, a second's work.
_HEAVY = ("Conv", "ConvTranspose", "ConvInteger", "Einsum", "Gemm", "MatMul", "MatMulInteger", "Resize", "Upsample")
_HEAVY_MOST = 2**42

#: Operands that may say how large a result is: shapes, repeats, sizes.
_FEW = 64


class Folder:
    """Evaluates nodes of one file; `skipped` names the operators that would have gone beyond the budget."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.skipped: set[str] = set()
        self._bytes, self._seconds = 0, 0.0

    def results(self, node: onnx.NodeProto, feeds: Mapping[str, AnyArray]) -> list[AnyArray] | None:
        """The outputs of a node of constants; None where it cannot be computed. Raises GraphError beyond the budget."""
        if node.op_type in _NOT_FOLDED:
            return None
        if not self._affordable(node, feeds):
            self.skipped.add(node.op_type)
            return None
        start = time.perf_counter()
        try:
            ours = _OURS.get(node.op_type)
            found = ours(node, feeds) if ours is not None else _evaluated(node, feeds, self.opset)
        except Exception:  # an evaluator of many authors: whatever it raises, the node is not folded
            return None
        self._seconds += time.perf_counter() - start
        self._bytes += sum(array.nbytes for array in found)
        if self._seconds > MOST_SECONDS:
            raise GraphError(
                f"computing the file's constants takes more than {MOST_SECONDS:g} s (at {node.op_type} {node.name}): "
                "expected weights as they are; fold its constants before"
            )
        return found

    def _affordable(self, node: onnx.NodeProto, feeds: Mapping[str, AnyArray]) -> bool:
        if node.op_type in _HEAVY and _product(array.size for array in feeds.values()) > _HEAVY_MOST:
            return False
        grown = _result_bytes(node, feeds, self.opset) if feeds else 0
        return self._bytes + grown <= MOST_BYTES


def _product(numbers: Any) -> float:
    result = 1.0
    for n in numbers:
        result *= max(n, 1)
    return result


def _result_bytes(node: onnx.NodeProto, feeds: Mapping[str, AnyArray], opset: int) -> int:
    """Bytes of a node's results, as far as they can be told without computing them (8 an element)."""
    few = {name: array for name, array in feeds.items() if array.size <= _FEW}
    try:
        model = _model(node, feeds, opset, few)
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except Exception:
        return 0
    total = 0
    for value in inferred.graph.output:
        dims = value.type.tensor_type.shape.dim
        total += 8 * int(_product(dim.dim_value for dim in dims)) if dims else 0
    return total


def _model(
    node: onnx.NodeProto, feeds: Mapping[str, AnyArray], opset: int, held: Mapping[str, AnyArray]
) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
        if name not in held
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    body = helper.make_graph([node], "constant", inputs, outputs, kept)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)])


def _evaluated(node: onnx.NodeProto, feeds: Mapping[str, AnyArray], opset: int) -> list[AnyArray]:
    found = ReferenceEvaluator(_model(node, feeds, opset, {})).run(None, dict(feeds))
    results = iter(np.asarray(result) for result in found)
    return [next(results) if name else np.zeros(0, np.float32) for name in node.output]


def _constant(node: onnx.NodeProto, feeds: Mapping[str, AnyArray]) -> list[AnyArray]:
    """Without an evaluator: files hold their weights in such nodes, too."""
    (attribute,) = (a for a in node.attribute if a.name.startswith("value"))
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return [numpy_helper.to_array(value)]
    kind = np.float32 if attribute.name in ("value_float", "value_floats") else np.int64
    return [np.array(value, kind)]


def _dequantize(node: onnx.NodeProto, feeds: Mapping[str, AnyArray]) -> list[AnyArray]:
    """(x - zero point) * scale, a number for all, for each of an axis (opset 13), or for each block of it (21).

    ONNX's evaluator has it from opset 19 on only.
    """
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    x, scale = feeds[node.input[0]], feeds[node.input[1]]
    has_zero = len(node.input) > 2 and node.input[2] != ""
    zero = feeds[node.input[2]] if has_zero else np.zeros(scale.shape, np.int32)
    block = attributes.get("block_size", 0)
    axis = attributes.get("axis", 1)
    if block:
        scale, zero = (np.repeat(each, block, axis) for each in (scale, zero))
        scale, zero = (np.take(each, range(x.shape[axis]), axis) for each in (scale, zero))
    elif scale.size > 1:
        shape = [1] * x.ndim
        shape[axis] = scale.size
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    wide = np.float32 if x.dtype.kind not in "iu" else np.int32
    return [((x.astype(wide) - zero.astype(wide)).astype(scale.dtype) * scale).astype(scale.dtype)]


#: Computed here rather than by ONNX's evaluator.
_OURS: Mapping[str, Callable[[onnx.NodeProto, Mapping[str, AnyArray]], list[AnyArray]]] = {
    "Constant": _constant,
    "DequantizeLinear": _dequantize,
}
