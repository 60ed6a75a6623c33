"""Sizes, depths and numbers at which readers give up, each with its reason in words."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from effgen.files import bounded
from effgen.files.bounded import (
    DEEPEST,
    MOST_LINE,
    MOST_TOML_BYTES,
    UnreadableError,
    bytes_text,
    read_bytes,
    read_json,
    read_text,
    table_from_toml,
    value_from_json,
)


def reason(read: object, *arguments: object) -> str:
    assert callable(read)
    with pytest.raises(UnreadableError) as caught:
        read(*arguments)
    line = str(caught.value)
    assert line and "\n" not in line and len(line) < 200
    return line


def nested(depth: int, opened: str = "[", closed: str = "]") -> str:
    return opened * depth + closed * depth


def test_sizes_of_files(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 4096)
    assert read_bytes(file, 4096) == b"x" * 4096
    assert reason(read_bytes, file, 4095).startswith("larger than 3.99902 KiB")
    assert reason(read_bytes, Path("/dev/zero"), 2**20).startswith("larger than 1 MiB")
    assert read_text(Path("/dev/null"), 1) == ""
    assert read_text(Path("/proc/self/status"), 2**20).startswith("Name:")  # a file that says it has no bytes
    with file.open("wb") as sparse:
        sparse.truncate(2**40)
    assert reason(read_bytes, file, bounded.MOST_WEIGHTS_BYTES).startswith("larger than 2 GiB")


def test_what_is_no_file(tmp_path: Path) -> None:
    assert reason(read_bytes, tmp_path, 9) == "Is a directory"
    assert reason(read_bytes, tmp_path / "none", 9) == "No such file or directory"
    assert reason(read_bytes, Path("a\0b"), 9) == "a path with a zero byte"
    (tmp_path / "a").write_bytes(b"\xff")
    assert reason(read_text, tmp_path / "a", 9) == "not UTF-8 text"


def test_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes through one is read, however slowly; one that nobody writes to is given up."""
    monkeypatch.setattr(bounded, "_PATIENCE_S", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "nothing came through for 0.2 s" in reason(read_bytes, pipe, 9)
    monkeypatch.setattr(bounded, "_PATIENCE_S", 60.0)
    writer = threading.Thread(target=lambda: pipe.write_text("name = 1"))
    writer.start()
    found = read_text(pipe, 2**20)
    writer.join()
    assert found in ("name = 1", "")  # empty where it was read before the writer had opened it


def test_toml() -> None:
    assert table_from_toml("a = [1, 2.5, 'x']\nb = inf\n[c.d]\ne = 2026-11-30")["a"] == [1, 2.5, "x"]
    assert table_from_toml(f"a = {2**64 - 1}\nb = {-(2**63)}") == {"a": 2**64 - 1, "b": -(2**63)}
    for deep in (
        "a = " + nested(900),
        "a = " + nested(100),
        "a = " + "{a = " * 100 + "1" + "}" * 100,
        ".".join(["a"] * 100) + " = 1",
        "[" + ".".join(["a"] * 100) + "]",
        "a = " + nested(DEEPEST + 1),
    ):
        assert reason(table_from_toml, deep) == f"nested more than {DEEPEST} deep, which nothing here is"
    assert table_from_toml("a = " + nested(DEEPEST))
    for number in ("9" * 5000, "-" + "9" * 30, "0x" + "f" * 2000, str(2**64), "0o" + "7" * 30, "0b" + "1" * 65):
        long = "a = [\n" + ",\n".join([number[:2000]] * (1 + len(number) // 2001)) + "]"
        assert reason(table_from_toml, long) == "holds a whole number of more than 64 bits"
    assert reason(table_from_toml, "a = " + "9" * MOST_LINE).startswith("line 1 has 2052 characters")
    assert reason(table_from_toml, "\n" * (MOST_TOML_BYTES + 1)).startswith("larger than 256 KiB")
    assert reason(table_from_toml, "a = ").startswith("Invalid value")


def test_json(tmp_path: Path) -> None:
    assert value_from_json(b'{"a": [1, 2.5, null, true, "\\u00e4"]}') == {"a": [1, 2.5, None, True, "ä"]}
    for deep in (nested(100_000), nested(100), nested(DEEPEST + 2), '{"a":' * 100 + "1" + "}" * 100):
        assert reason(value_from_json, deep) == f"nested more than {DEEPEST} deep, which nothing here is"
    assert value_from_json(nested(DEEPEST + 1))
    for number in ("9" * 5000, "9" * 100, str(2**64), str(-(2**63) - 1)):
        assert reason(value_from_json, f"[{number}]") == "holds a whole number of more than 64 bits"
    assert str(value_from_json("[NaN, 1e999]")) == "[nan, inf]"
    for half in ('"\\ud800"', '{"\\udfff": 1}'):
        assert "half a character" in reason(value_from_json, half)
    assert reason(value_from_json, b'"\xff"').startswith("'utf-8' codec")
    assert reason(value_from_json, "[" + " " * 2**24 + "]").startswith("larger than 16 MiB")
    (tmp_path / "a.json").write_text("[1]")
    assert read_json(tmp_path / "a.json") == [1]


def test_limits_in_words() -> None:
    assert [bytes_text(n) for n in (5, 2**10, 3 * 2**20, 2**31)] == ["5 bytes", "1 KiB", "3 MiB", "2 GiB"]
