"""What ONNX says of an operator, held against a node: the tensors that it takes and makes, its attributes' types."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx
from onnx import AttributeProto, defs

from effgen.errors import GraphError

#: Characters of a message about a file: names and shapes may be of any length.
_MOST_CHARACTERS = 2000


def shortened(text: str, most: int = _MOST_CHARACTERS) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else f"{text[:most]}..."


def check_node(proto: onnx.NodeProto, opset: int) -> None:
    """Raise GraphError where one of ONNX's own operators is used as ONNX does not know it."""
    schema = _schema(proto.op_type, opset) if proto.domain in ("", "ai.onnx") else None
    if schema is None:
        return
    for what, found, least, most in (
        ("inputs", len(proto.input), schema.min_input, schema.max_input),
        ("outputs", len(proto.output), schema.min_output, schema.max_output),
    ):
        if not least <= found <= most:
            raise GraphError(f"malformed: has {found} {what}; expected what ONNX says of {proto.op_type}")
    for attribute in proto.attribute:
        known = schema.attributes.get(attribute.name)
        if known is not None and attribute.type != known.type.value and not attribute.ref_attr_name:
            raise GraphError(
                f"malformed: its attribute {attribute.name} is of type {_type_name(attribute.type)}: expected "
                f"{known.type.name}"
            )


@cache
def _schema(op_type: str, opset: int) -> Any:
    """None for an operator that is none of ONNX's in this opset."""
    try:
        return defs.get_schema(op_type, opset, "")
    except defs.SchemaError:
        return None


def _type_name(number: int) -> str:
    known = number in AttributeProto.AttributeType.values()
    return AttributeProto.AttributeType.Name(number) if known else str(number)
