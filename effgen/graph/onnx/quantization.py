"""Whole-number codes: what a network rounds its tensors to, and constants that a file holds rounded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, helper

from effgen.errors import GraphError, candidates
from effgen.graph.onnx.reader import AnyArray, Converter, OnnxNode, Reader
from effgen.graph.ops import CODES, AttributeValue


def quantize(reader: Reader, node: OnnxNode) -> None:
    """Where no zero point says of which type the codes are, `output_dtype` (opset 21) does, or they are uint8."""
    source = reader.tensor(node.inputs[0])
    stated = node.attributes.get("output_dtype", 0)
    _emit(reader, node, source, _type_name(stated) if stated else "uint8")


def dequantize(reader: Reader, node: OnnxNode) -> None:
    source = reader.tensor(node.inputs[0])
    if source not in reader.codes:
        raise GraphError("reads numbers that no QuantizeLinear made: expected its codes")
    _emit(reader, node, source, reader.codes[source])


def _emit(reader: Reader, node: OnnxNode, source: str, kind: str) -> None:
    if node.attributes.get("block_size", 0):
        raise GraphError("block_size: expected one scale for all, or one for each of an axis")
    scale = reader.constant(node, 1, "its scale")
    zero = reader.constant(node, 2, "its zero point") if reader.has_input(node, 2) else None
    kind = kind if zero is None else zero.dtype.name
    if kind not in CODES:
        raise GraphError(f"codes of type {kind}: {candidates(kind, CODES)}")
    if source in reader.codes and reader.codes[source] != kind:
        raise GraphError(f"a zero point of type {kind} for codes of type {reader.codes[source]}: expected one type")
    reader.emit(node.op_type, [source], node.output, **_attributes(reader, node, source, scale, zero), type=kind)
    reader.reduced = True


def _attributes(
    reader: Reader, node: OnnxNode, source: str, scale: AnyArray, zero: AnyArray | None
) -> dict[str, AttributeValue]:
    scales = np.atleast_1d(scale).astype(np.float32)
    if not (np.isfinite(scales) & (scales > 0)).all() or scales.ndim != 1:
        raise GraphError(f"scale {_shown(scales)}: expected numbers above 0, one or one for each of an axis")
    zeros = np.zeros(scales.shape, np.int64) if zero is None else np.atleast_1d(zero)
    axis = 0 if scales.size == 1 else reader.axis(node.attributes.get("axis", 1), reader.rank(source))
    return {
        "scale": tuple(float(number) for number in scales),
        "zero_point": tuple(int(number) for number in zeros.ravel()),
        "axis": axis,
    }


def _shown(numbers: AnyArray) -> str:
    """The first of them."""
    return f"{', '.join(f'{number:g}' for number in numbers.ravel()[:4])}{', ...' if numbers.size > 4 else ''}"


def _type_name(number: int) -> str:
    return str(helper.tensor_dtype_to_np_dtype(number)) if number in TensorProto.DataType.values() else str(number)


CONVERTERS: Mapping[str, Converter] = {"DequantizeLinear": dequantize, "QuantizeLinear": quantize}
