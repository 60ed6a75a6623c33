"""A model's bytes before anybody makes objects of them: counted, and their texts decoded.

Two bytes of a file are an object of a hundred in memory, and a text that is no UTF-8 is found only by whoever asks for
it. So the messages of protobuf's wire format are gone through once, by ONNX's own description of which field is what.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

import onnx

from effgen.errors import GraphError

#: Messages (nodes, attributes, tensors, shapes ...) and fields of a file, and how deep they lie in each other: a graph
#: in an attribute is three deeper. Characters of a name.
MOST_MESSAGES, MOST_FIELDS, DEEPEST, LONGEST_NAME = 1_000_000, 10_000_000, 64, 4096

#: Texts that are no names.
_TEXTS = ("doc_string", "value", "producer_name", "producer_version")

#: A message's fields by number: texts with the most bytes that they have, messages with their own fields.
_Fields: TypeAlias = Mapping[int, Any]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@cache
def _fields(descriptor: Any) -> _Fields:
    found: dict[int, Any] = {}
    for field in descriptor.fields:
        if field.type == field.TYPE_STRING:
            found[field.number] = None if field.name in _TEXTS else LONGEST_NAME
        elif field.type == field.TYPE_MESSAGE:
            found[field.number] = field.message_type
    return found


def check_wire(data: bytes) -> None:
    """Raise GraphError where `data` is no message of protobuf, has a text that is no UTF-8 or a name of more than
    LONGEST_NAME bytes, or is beyond the limits above."""
    place, messages, counted = 0, 1, 0
    open_: list[tuple[int, _Fields]] = [(len(data), _fields(onnx.ModelProto.DESCRIPTOR))]
    while open_:
        end, fields = open_[-1]
        if place == end:
            open_.pop()
            continue
        counted += 1
        if counted > MOST_FIELDS:
            raise GraphError(f"holds more than {MOST_FIELDS:,} fields, which no network has")
        key, place = _varint(data, place)
        wire = key & 7
        if wire == _BYTES:
            length, place = _varint(data, place)
            stop = place + length
            _check_end(stop, end)
            known = fields.get(key >> 3, 0)
            if known == 0:
                place = stop
            elif known is None or isinstance(known, int):
                _check_text(data, place, stop, known)
                place = stop
            else:
                messages += 1
                if messages > MOST_MESSAGES or len(open_) >= DEEPEST:
                    raise GraphError(
                        f"holds more than {MOST_MESSAGES:,} messages, or messages more than {DEEPEST} deep, which no "
                        "network has"
                    )
                open_.append((stop, _fields(known)))
        elif wire == _VARINT:
            _, place = _varint(data, place)
        elif wire in (_FIXED32, _FIXED64):
            place += 4 if wire == _FIXED32 else 8
        else:
            raise GraphError("not a readable ONNX model: no message of protobuf")
        _check_end(place, end)


def _check_end(place: int, end: int) -> None:
    if place > end:
        raise GraphError("not a readable ONNX model: cut short, or no message of protobuf")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and what is behind it."""
    number = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
        shift += 7
    raise GraphError("not a readable ONNX model: cut short, or no message of protobuf")


def _check_text(data: bytes, start: int, stop: int, most: int | None) -> None:
    if most is not None and stop - start > most:
        raise GraphError(f"holds a name of {stop - start:,} bytes: expected at most {most:,}")
    try:
        data[start:stop].decode()
    except UnicodeDecodeError:
        raise GraphError("not a readable ONNX model: holds a text that is no UTF-8") from None
