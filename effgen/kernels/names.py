"""The grammar of kernels' names: each part of a name is written and read back by one description.

A name is parts joined by `_`: the type, what kind of kernel it is, sizes by letters, words. Parts that would say the
usual are left out:

    f32_dwconv2d_k5s2_c144_h56_silu_sums
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from effgen.kernels.workload import ACTIVATIONS, CODE_TYPES, FLOAT_TYPES, NUMBER_TYPES, WITH_NUMBERS, Shape

#: What parts say, by name.
Fields = dict[str, Any]

#: What is usual of a part that is never left out.
ALWAYS = object()

_NUMBER = r"[1-9]\d*"
# Any number, as `effgen.kernels.workload` spells it.
_SPELLED = r"m?(?:\d+(?:p\d+)?(?:em?\d+)?|inf)"


@dataclass(frozen=True)
class Part:
    """A part of names: its text matches `pattern` (no capturing groups); `write` makes it of a workload's fields and
    `read` makes them of it. The text is empty where an `optional` part is left out."""

    pattern: str
    write: Callable[[Mapping[str, Any]], str]
    read: Callable[[str], Fields]
    optional: bool = False


class Grammar:
    """Names of one form: type, `word`, `parts`."""

    def __init__(self, word: str, *parts: Part) -> None:
        self._parts = (_DTYPE, _fixed(word), *parts)
        first, *others = self._parts
        rest = (f"(?:_({part.pattern}))?" if part.optional else f"_({part.pattern})" for part in others)
        self._pattern = re.compile(f"({first.pattern})" + "".join(rest), re.ASCII)

    def write(self, fields: Mapping[str, Any]) -> str:
        return "_".join(text for part in self._parts if (text := part.write(fields)))

    def read(self, name: str) -> Fields | None:
        """The fields, or None for a name of another form."""
        match = self._pattern.fullmatch(name)
        if match is None:
            return None
        fields: Fields = {}
        for part, text in zip(self._parts, match.groups(default=""), strict=True):
            fields |= part.read(text)
        return fields


def number(letter: str, field: str, usual: object = ALWAYS) -> Part:
    """`c96`."""
    return _valued(letter, field, _NUMBER, str, int, usual)


def pair(letter: str, field: str, usual: object = ALWAYS) -> Part:
    """`k3`, or `k3x2` for two that differ."""

    def read(text: str) -> tuple[int, int]:
        first, _, second = text.partition("x")
        return int(first), int(second or first)

    return _valued(letter, field, rf"{_NUMBER}(?:x{_NUMBER})?", pair_text, read, usual)


def sides(letter: str, field: str, usual: object) -> Part:
    """`p0x0x1x1`: one number for each of top, left, bottom, right."""
    return _valued(letter, field, r"\d+(?:x\d+){3}", _joined, _split, usual)


def word(field: str, words: Mapping[Any, str], usual: object = ALWAYS) -> Part:
    """One of some words, each for a value."""
    values = {text: value for value, text in words.items()}
    pattern = "|".join(sorted(values, key=len, reverse=True))
    return _valued("", field, f"(?:{pattern})", words.__getitem__, values.__getitem__, usual)


def cuts(field: str) -> Part:
    """`o58x58`: numbers, however many."""
    return _valued("o", field, rf"{_NUMBER}(?:x{_NUMBER})*", _joined, _split, ALWAYS)


def flag(field: str, text: str) -> Part:
    """A word that is there where the field is true."""
    return word(field, {True: text}, usual=False)


def activation(field: str = "activation", usual: object = "none") -> Part:
    """An activation's own name."""
    numbers = (name + rf"_{_SPELLED}" * count for name, count in WITH_NUMBERS.items())
    words = "|".join(sorted((*ACTIVATIONS, *numbers), key=len, reverse=True))
    return _valued("", field, f"(?:{words})", str, str, usual)


def together(*parts: Part) -> Part:
    """Parts without anything between them: `k5s2`."""
    pattern = re.compile("".join(f"({part.pattern})" for part in parts), re.ASCII)

    def read(text: str) -> Fields:
        match = pattern.fullmatch(text)
        assert match is not None, text
        found = [part.read(piece) for part, piece in zip(parts, match.groups(), strict=True)]
        return {field: value for fields in found for field, value in fields.items()}

    whole = "".join(part.pattern for part in parts)
    return Part(whole, lambda fields: "".join(part.write(fields) for part in parts), read)


def _size(text_of_square: Callable[[int], str], optional: bool) -> Part:
    def write(fields: Mapping[str, Any]) -> str:
        height, width = fields["height"], fields["width"]
        return text_of_square(height) if height == width else f"h{height}w{width}"

    def read(text: str) -> Fields:
        found = [int(digits) for digits in re.findall(r"\d+", text)]
        return {"height": found[0], "width": found[-1]} if found else {}

    return Part(f"h{_NUMBER}w{_NUMBER}" if optional else f"h{_NUMBER}(?:w{_NUMBER})?", write, read, optional)


def _fixed(text: str) -> Part:
    return Part(text, lambda fields: text, lambda text: {})


def _valued(
    letter: str,
    field: str,
    pattern: str,
    text_of: Callable[[Any], str],
    value_of: Callable[[str], Any],
    usual: object,
) -> Part:
    """`letter` and a field's value; left out where it is the `usual` one."""
    return Part(
        letter + pattern,
        lambda fields: "" if fields[field] == usual else letter + text_of(fields[field]),
        lambda text: {field: value_of(text.removeprefix(letter)) if text else usual},
        optional=usual is not ALWAYS,
    )


def pair_text(values: tuple[int, int]) -> str:
    return str(values[0]) if values[0] == values[1] else _joined(values)


def _joined(values: Shape) -> str:
    return "x".join(map(str, values))


def _split(text: str) -> Shape:
    return tuple(map(int, text.split("x")))


def _write_runs(fields: Mapping[str, Any]) -> str:
    runs = [(number, len(list(same))) for number, same in groupby(fields["parts"])]
    return "_".join(f"c{number}" if count == 1 else f"c{number}x{count}" for number, count in runs)


def _read_runs(text: str) -> Fields:
    runs = [_split(f"{run[1:]}x1")[:2] for run in text.split("_")]
    return {"parts": tuple(number for number, count in runs for _ in range(count))}


def usual_padding(kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    """What names leave out: as much on either side as keeps an image's size."""
    top, left = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
    return (top, left, top, left)


def _write_depthwise(fields: Mapping[str, Any]) -> str:
    usual = (part.padding == usual_padding(part.kernel) for part in fields["parts"])
    texts = (f"k{pair_text(part.kernel)}c{part.in_channels}" for part in fields["parts"])
    paddings = (f"p{_joined(part.padding)}" for part in fields["parts"])
    each = zip(texts, usual, paddings, strict=True)
    return "_".join(text if is_usual else text + padding for text, is_usual, padding in each)


def _read_depthwise(text: str) -> Fields:
    found = []
    for part in text.split("_"):
        kernel, channels, padding = re.fullmatch(r"k([\dx]+)c(\d+)(?:p([\dx]+))?", part).groups()  # type: ignore[union-attr]
        first, _, second = kernel.partition("x")
        size = (int(first), int(second or first))
        found.append((size, int(channels), _split(padding) if padding else usual_padding(size)))
    return {"parts": tuple(found)}


def _write_ahead(fields: Mapping[str, Any]) -> str:
    shapes = fields["ahead"]
    return "_".join(["ahead", *(f"w{_joined(shape)}" for shape in shapes)]) if shapes else ""


def _read_ahead(text: str) -> Fields:
    return {"ahead": tuple(_split(shape[1:]) for shape in text.split("_")[1:])}


_DTYPE = word("dtype", {name: NUMBER_TYPES[name].short for name in (*FLOAT_TYPES, *CODE_TYPES)})
#: Height and width of an image: `h7`, `h7w9`.
SIZE = _size(lambda height: f"h{height}", optional=False)
#: The same, left out where the image is square.
UNEQUAL_SIZE = _size(lambda height: "", optional=True)
BATCH = number("b", "batch", usual=1)
#: Channels of images, `c24x3` for three of 24.
CHANNELS_OF_PARTS = Part(rf"c{_NUMBER}(?:x{_NUMBER})?(?:_c{_NUMBER}(?:x{_NUMBER})?)*", _write_runs, _read_runs)
_DEPTHWISE_PART = rf"k{_NUMBER}(?:x{_NUMBER})?c{_NUMBER}(?:p\d+(?:x\d+){{3}})?"
#: Kernel, channels and unusual padding of depthwise convolutions side by side: `k3c48_k5c48`.
DEPTHWISE_PARTS = Part(f"{_DEPTHWISE_PART}(?:_{_DEPTHWISE_PART})*", _write_depthwise, _read_depthwise)
#: Of which type codes are that are stored: `to_u8`.
CODES_MADE = word("code_type", {name: f"to_{NUMBER_TYPES[name].short}" for name in CODE_TYPES}, None)
#: Of which type codes are that are added: `of_u8`.
CODES_ADDED = word("residual_type", {name: f"of_{NUMBER_TYPES[name].short}" for name in CODE_TYPES}, None)
#: Shapes of the packed weights asked for: `ahead_w18x1x1x40x16_w...`.
AHEAD = Part(rf"ahead(?:_w{_NUMBER}(?:x{_NUMBER})*)+", _write_ahead, _read_ahead, optional=True)
