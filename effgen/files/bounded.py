"""Reading files that anybody may have written: within sizes, times and depths that are stated here, or not at all.

Readers turn an `UnreadableError` into an error of their own, in which they name the file and the way out.
docs/security.md has a table of what each reader gives up at.
"""

from __future__ import annotations

import json
import os
import re
import select
import stat
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

KIB, MIB, GIB = 2**10, 2**20, 2**30

#: Bytes of a file that a person writes (a spec, a target, a recipe), and characters of one of its lines: a dotted key
#: is a tree as deep as it has dots, and costs their square.
MOST_TOML_BYTES, MOST_LINE = 256 * KIB, 2048

#: Bytes of a document of JSON, and of a file of lines of it; of one of those lines, and how many there may be.
MOST_JSON_BYTES, MOST_LINES_BYTES = 16 * MIB, 256 * MIB
MOST_LINE_BYTES, MOST_LINES = MIB, 1_000_000

#: Bytes of a checkpoint or a model: the largest network published (EfficientNet-L2) has 1.8 GiB of weights.
MOST_WEIGHTS_BYTES = 2 * GIB

#: Bytes of what says no size before: a pipe or a device, which may have no end.
MOST_PIPED_BYTES = 256 * MIB

#: How deep tables and lists lie in each other.
DEEPEST = 32

#: Whole numbers have 64 bits, as TOML says, and no reader of JSON elsewhere takes more.
_INTEGERS = range(-(2**63), 2**64)
_MOST_DIGITS = 20

#: How long a pipe may keep its reader waiting, all waits together.
_PATIENCE_S = 20.0

_CHUNK = MIB
_SURROGATE = re.compile("[\ud800-\udfff]")


class UnreadableError(Exception):
    """Why a file cannot be read, or holds no data: words without the file's name."""


class MissingError(UnreadableError):
    """There is no such file."""


def bytes_text(count: int) -> str:
    """A limit in words: `256 KiB`."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return f"{count} bytes"


def read_bytes(path: Path, most: int) -> bytes:
    """A file's content, `most` bytes at most. Raises UnreadableError for one that is larger, cannot be read, or is a
    pipe that nothing comes through, MissingError where there is none."""
    try:
        # A pipe that nobody writes to would keep open() waiting for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_size:
                _check_size(found.st_size, most)
                return file.readall()
            return b"".join(_chunks(descriptor, min(most, MOST_PIPED_BYTES)))
    except FileNotFoundError as error:
        raise MissingError(error.strerror) from None
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    except ValueError:  # of os.open
        raise UnreadableError("a path with a zero byte") from None
    except MemoryError:
        raise UnreadableError("larger than this computer's memory") from None


def _chunks(descriptor: int, most: int) -> Iterator[bytes]:
    """What comes through a pipe, or out of a device or a file whose size nobody knows before."""
    ready, total, patience = select.poll(), 0, _PATIENCE_S
    ready.register(descriptor, select.POLLIN)
    while True:
        start = time.monotonic()
        if patience <= 0 or not ready.poll(patience * 1000):
            raise UnreadableError(f"a pipe that nothing came through for {_PATIENCE_S:g} s")
        patience -= time.monotonic() - start
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return
        total += len(chunk)
        _check_size(total, most)
        yield chunk


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise UnreadableError(f"larger than {bytes_text(most)}, which is the most that is read here")


def read_text(path: Path, most: int) -> str:
    """The same of a file of UTF-8 text."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError("not UTF-8 text") from None


def table_from_toml(text: str) -> dict[str, Any]:
    """What TOML says: tables, lists, texts, numbers of 64 bits. Raises UnreadableError: no TOML, or beyond the limits
    above."""
    _check_size(len(text), MOST_TOML_BYTES)
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MOST_LINE:
            raise UnreadableError(f"line {number} has {len(line)} characters, expected at most {MOST_LINE}")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnreadableError(str(error)) from None
    except RecursionError:
        _refuse_depth()
    except ValueError:  # Python's own limit of digits, of which there are thousands
        _refuse_number()
    check_tree(table)
    return table


def value_from_json(text: bytes | str, most: int = MOST_JSON_BYTES) -> Any:
    """What JSON says: dictionaries, lists, texts, numbers, whole ones of 64 bits (and NaN and infinity, which Python
    writes: readers say where they found them). Raises UnreadableError: no
    JSON (of UTF-8), or beyond the limits above."""
    _check_size(len(text), most)
    try:
        value = json.loads(text, parse_int=_whole)
    except RecursionError:
        _refuse_depth()
    except ValueError as error:  # text that is no UTF-8 is a ValueError too
        raise UnreadableError(" ".join(str(error).split())) from None
    check_tree(value)
    return value


def read_json(path: Path) -> Any:
    """`value_from_json` of a file."""
    return value_from_json(read_bytes(path, MOST_JSON_BYTES))


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        _refuse_number()
    return int(digits)


def _refuse_depth() -> NoReturn:
    raise UnreadableError(f"nested more than {DEEPEST} deep, which nothing here is")


def _refuse_number() -> NoReturn:
    raise UnreadableError("holds a whole number of more than 64 bits")


def check_tree(value: Any) -> None:
    """Raise UnreadableError where plain data is deeper than DEEPEST, or holds a number of more than 64 bits or half a
    character: what follows may compare, count, print and write down all of it."""
    level = [value]
    for _ in range(DEEPEST + 1):
        inner: list[Any] = []
        for each in level:
            check = _CHECKS.get(type(each))
            if check is not None:
                check(each, inner)
        if not inner:
            return
        level = inner
    _refuse_depth()


def _check_table(table: dict[str, Any], inner: list[Any]) -> None:
    inner.extend(table)
    inner.extend(table.values())


def _check_integer(number: int, inner: list[Any]) -> None:
    if number not in _INTEGERS:
        _refuse_number()


def _check_text(text: str, inner: list[Any]) -> None:
    if not text.isascii() and _SURROGATE.search(text):
        raise UnreadableError("holds half a character (a lone surrogate)")


_CHECKS: Mapping[type, Callable[[Any, list[Any]], None]] = {
    dict: _check_table,
    list: lambda items, inner: inner.extend(items),
    int: _check_integer,
    str: _check_text,
}
