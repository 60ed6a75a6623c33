"""Inputs for readers, made of good ones: bytes that changed, trees whose shape is right and whose content is not."""

from __future__ import annotations

import copy
import random
import string
from collections.abc import Callable
from typing import Any


class Raw(str):
    """A value of a tree that is written as it is, whatever the format would make of it: thousands of digits."""

    __slots__ = ()


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, left out, put in, or put elsewhere."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not found:
            return bytes(found)
        place = rng.randrange(len(found))
        length = min(rng.choice((1, 1, 2, 4, 8, 64, 1024)), len(found) - place)
        kind = rng.randrange(7)
        if kind == 0:
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            del found[place : place + length]
        elif kind == 3:
            found[place:place] = found[place : place + length] * rng.choice((1, 2, 50))
        elif kind == 4:
            found[place:place] = rng.choice(_TOKENS)
        elif kind == 5:
            found[place : place + length] = rng.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * length
        else:
            del found[place:]
    return bytes(found)


_TOKENS = (
    b"[" * 2000, b"{" * 500, b"]", b"}", b"9" * 5000, b"-1", b"1e999", b"nan", b"\x00", b"\xff\xfe", b"\n", b'"', b"\\",
    b"\x1b[31m", "\u202e".encode(), b"0x" + b"f" * 400, b"\xef\xbb\xbf", b"a." * 900, b"[[", b"= ",
)  # fmt: skip


def changed_tree(tree: Any, rng: random.Random) -> Any:
    """The same tree but for one to three places, which are left out, doubled, renamed, or have another value."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder = rng.choice(_holders(tree))
        if not holder:
            continue
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        kind = rng.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(_NAMES)] = holder.pop(key)
        elif kind == 2 and isinstance(holder, list):
            holder[key:key] = [holder[key]] * rng.choice((1, 3, 300))
        elif kind == 3:
            other = rng.choice(_holders(tree))
            holder[key] = copy.deepcopy(other)
        else:
            holder[key] = changed_value(holder[key], rng)
    return tree


def changed_value(value: Any, rng: random.Random) -> Any:
    """Near the value, or far from anything."""
    near: list[Callable[[], Any]] = []
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**70:
        near = [lambda: -value, lambda: value + 1, lambda: value * 1000, lambda: value / 3, lambda: str(value)]
    if isinstance(value, str):
        near = [lambda: value[:-1], lambda: value + "x", lambda: value * 40, lambda: value.upper(), lambda: [value]]
    if near and rng.random() < 0.4:
        return rng.choice(near)()
    return copy.deepcopy(rng.choice(HOSTILE))


def _holders(tree: Any) -> list[Any]:
    found, waiting = [], [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            found.append(each)
            waiting += each.values() if isinstance(each, dict) else each
    return found or [[]]


def nested(depth: int, of: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = of(value)
    return value


#: Values that a reader may meet anywhere.
HOSTILE: list[Any] = [
    0, 1, -1, 2, 7, 255, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**18, 10**400,
    Raw("9" * 5000), 0.0, -0.0, 1.5, 1e-320, 1e-12, 1e15, 1e300, Raw("nan"), Raw("inf"), Raw("-inf"), True, False, None,
    "", "x", "0", "x" * 3000, "\x1b[31mred", "a\nb", "\u202eabc", "\ud800", "../../etc/passwd", "/dev/zero", "%s%n",
    [], [[]], {}, {"a": 1}, [1, 2, 3], [0] * 3000, ["x"] * 50, nested(20, lambda value: [value]),
    nested(200, lambda value: [value]), nested(60, lambda value: {"a": value}),
]  # fmt: skip

_NAMES = ["a", "", "name", "block", "x" * 300, "\x1b]0;t\x07", "a.b", "stages", "results", "seconds", "\u00e4", "1"]


def toml_text(tree: Any) -> str:
    """A table as TOML, with whatever is no TOML as it comes."""
    return "".join(f"{_toml_key(key)} = {_toml_value(value)}\n" for key, value in tree.items())


def _toml_key(key: str) -> str:
    plain = bool(key) and all(letter in string.ascii_letters + string.digits + "_-" for letter in key)
    return key if plain else _text(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(_toml_value, value)) + "]" if value else "[]"
    if value is None:
        return '"none"'
    return _scalar(value)


def json_text(value: Any) -> str:
    """JSON, with whatever is no JSON as it comes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(str(key))}: {json_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(json_text, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, float) and not isinstance(value, Raw):
        return repr(value).replace("inf", "Infinity").replace("nan", "NaN")
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 4000:
        return hex(value)
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    shown = "".join(letter if 32 <= ord(letter) < 127 and letter not in '"\\' else f"\\u{ord(letter):04x}"
                    for letter in text)  # fmt: skip
    return f'"{shown}"'
