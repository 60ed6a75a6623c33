"""One table: operator -> attributes, output shape, multiply-adds.

Operators carry ONNX's names and attribute names. Images are NCHW. `Swish` is ONNX's name (opset 24) for SiLU.
`ChannelShuffle` alone is no operator of ONNX's but three of them: Reshape, Transpose, Reshape. What ONNX gives as
constant inputs (axes, shapes, bounds) are attributes here; axes count from the front.
"""

from __future__ import annotations

from collections.abc import Mapping

from effgen.graph.ops.elementwise import BINARY, ELEMENTWISE, POINTWISE, UNARY, is_sixth, is_usual_hard_sigmoid
from effgen.graph.ops.info import Attributes, AttributeValue, OpInfo, Shape, integer, ints, number, text
from effgen.graph.ops.layers import LAYERS, REDUCTIONS
from effgen.graph.ops.moves import MOVES
from effgen.graph.ops.quantization import CODES, QUANTIZATION, floats
from effgen.graph.ops.windows import WINDOWS

OPS: Mapping[str, OpInfo] = {**WINDOWS, **LAYERS, **MOVES, **ELEMENTWISE, **QUANTIZATION}

__all__ = [
    "BINARY",
    "CODES",
    "MOVES",
    "OPS",
    "POINTWISE",
    "REDUCTIONS",
    "UNARY",
    "AttributeValue",
    "Attributes",
    "OpInfo",
    "Shape",
    "floats",
    "integer",
    "ints",
    "is_sixth",
    "is_usual_hard_sigmoid",
    "number",
    "text",
]
