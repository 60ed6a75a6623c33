"""Whole-number codes of a tensor: QuantizeLinear and DequantizeLinear.

Tensors of the Graph are float32, and so are those of codes: they hold whole numbers, which float32 has exactly. A code
of x is round(x / scale) + zero_point, half to even, at the bounds where it lies beyond; it stands for
(code - zero_point) * scale. Both are tuples: of one number for all, or of one for each of `axis`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from effgen.errors import GraphError
from effgen.graph.ops.info import Attributes, OpInfo, Shape, check_axes, integer, no_macs

#: Types that codes may have (attribute `type`), with the least and the greatest.
CODES: Mapping[str, tuple[int, int]] = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
}


def floats(attributes: Attributes, key: str) -> tuple[float, ...]:
    """An attribute that is several numbers."""
    value = attributes[key]
    assert isinstance(value, tuple), f"{key} = {value}"
    return value


def _infer(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, axis = shapes[0], integer(attributes, "axis", 0)
    scales, zeros = (len(floats(attributes, key)) for key in ("scale", "zero_point"))
    if scales != zeros:
        raise GraphError(f"{scales} scales and {zeros} zero points: expected as many of each")
    if scales != 1:
        check_axes("its scale", data, (axis,))
        if scales != data[axis]:
            raise GraphError(f"{scales} scales along axis {axis} of {data}: expected one, or one for each")
    return data


_OF_CODES = OpInfo((1, 1), frozenset(("scale", "zero_point", "axis", "type")), _infer, no_macs)

QUANTIZATION: Mapping[str, OpInfo] = {"DequantizeLinear": _OF_CODES, "QuantizeLinear": _OF_CODES}
