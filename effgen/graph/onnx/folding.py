"""Computing what depends on constants alone, within a budget of bytes and operations that is known before the work."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from effgen.errors import GraphError
from effgen.graph.codes import STORED, Grid
from effgen.graph.onnx.cost import Cost, cost_of

AnyArray: TypeAlias = NDArray[Any]

#: What a file's constants may come to: bytes of all results together, so many and so many times what the file itself
#: takes (weights stored as integers unfold to four times as much), and never more than the last; operations as
#: `effgen.graph.onnx.cost` counts them, and seconds of all computing.
SPARE_BYTES, MOST_TIMES, MOST_BYTES = 2**26, 16, 2**30
MOST_OPERATIONS, MOST_SECONDS = 2**32, 20.0


class Folder:
    """Evaluates nodes of one file of `stored_bytes`; `skipped` names the operators that would have gone beyond the
    budget, or that nobody computes here."""

    def __init__(self, opset: int, stored_bytes: int) -> None:
        self.opset = opset
        self.skipped: set[str] = set()
        self._bytes = min(SPARE_BYTES + MOST_TIMES * stored_bytes, MOST_BYTES)
        self._operations, self._seconds = MOST_OPERATIONS, MOST_SECONDS

    def results(self, node: onnx.NodeProto, feeds: Mapping[str, AnyArray]) -> list[AnyArray] | None:
        """The outputs of a node of constants; None where it cannot be computed, or not within the budget. Raises
        GraphError where all that was computed took too long."""
        try:
            cost = cost_of(node, feeds)
        except _MALFORMED:
            return None
        if cost is None or not self._take(cost):
            self.skipped.add(node.op_type)
            return None
        start = time.perf_counter()
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ours = _OURS.get(node.op_type)
                found = ours(node, feeds) if ours is not None else _evaluated(node, feeds, self.opset)
        except Exception:  # an evaluator of many authors: whatever it raises, the node is not folded
            return None
        self._seconds -= time.perf_counter() - start
        if self._seconds < 0:
            raise GraphError(
                f"computing the file's constants takes more than {MOST_SECONDS:g} s (at {node.op_type} {node.name}): "
                "expected weights as they are; fold its constants before"
            )
        self._bytes += cost.bytes - sum(array.nbytes for array in found)
        return found if len(found) == len(node.output) and all(array.dtype.kind != "O" for array in found) else None

    def _take(self, cost: Cost) -> bool:
        """Whether the budget is enough; then it is that much less."""
        if cost.bytes > self._bytes or cost.operations > self._operations:
            return False
        self._bytes -= cost.bytes
        self._operations -= cost.operations
        return True


#: What reading a malformed node, or numbers that are none, raises.
_MALFORMED = (ArithmeticError, LookupError, TypeError, ValueError)


def _model(node: onnx.NodeProto, feeds: Mapping[str, AnyArray], opset: int) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    body = helper.make_graph([node], "constant", inputs, outputs)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)])


def _evaluated(node: onnx.NodeProto, feeds: Mapping[str, AnyArray], opset: int) -> list[AnyArray]:
    found = ReferenceEvaluator(_model(node, feeds, opset)).run(None, dict(feeds))
    results = iter(np.asarray(result) for result in found)
    return [next(results) if name else np.zeros(0, np.float32) for name in node.output]


def _constant(node: onnx.NodeProto, feeds: Mapping[str, AnyArray]) -> list[AnyArray]:
    """Without an evaluator: files hold their weights in such nodes, too."""
    (attribute,) = (a for a in node.attribute if a.name.startswith("value"))
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        if value.data_type == onnx.TensorProto.STRING:  # an array has room for the longest in each place
            raise ValueError("text")
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
        if scale.size != x.shape[axis]:
            raise ValueError("a scale for each of an axis")
        shape = [1] * x.ndim
        shape[axis] = scale.size
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    wide = np.float32 if x.dtype.kind not in "iu" else np.int32
    return [((x.astype(wide) - zero.astype(wide)).astype(scale.dtype) * scale).astype(scale.dtype)]


def grid_of(node: onnx.NodeProto, feeds: Mapping[str, AnyArray]) -> Grid | None:
    """How what a DequantizeLinear makes of constants is stored; None for codes of a type that kernels do not know, or
    scales for blocks of an axis."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    codes, scale = feeds[node.input[0]], feeds[node.input[1]]
    if codes.dtype.name not in STORED or scale.ndim > 1:
        return None
    zero = feeds[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(scale.shape, np.int64)
    axis = attributes.get("axis", 1) % codes.ndim if scale.size > 1 else 0
    scales, zeros = np.atleast_1d(scale).astype(np.float32), np.atleast_1d(zero)
    return Grid(tuple(map(float, scales)), tuple(map(int, zeros)), axis, codes.dtype.name)


#: Computed here rather than by ONNX's evaluator.
_OURS: Mapping[str, Callable[[onnx.NodeProto, Mapping[str, AnyArray]], list[AnyArray]]] = {
    "Constant": _constant,
    "DequantizeLinear": _dequantize,
}
