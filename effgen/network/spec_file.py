"""NetworkSpec -> TOML: what a program made of a baseline, as a file that every `--spec` takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effgen.errors import BuildError
from effgen.files.staging import check_file, staged_file
from effgen.network.spec import NetworkSpec


def toml_from_spec(spec: NetworkSpec, comment: str = "") -> str:
    """The spec as TOML, every key written out; `parse_spec` makes the same spec of it.

    `comment`: lines that stand above it.
    """
    data = _without_nothing(spec.model_dump(mode="json"))
    lines = [f"# {_printable(line)}".rstrip() for line in comment.splitlines()]
    lines += [f"{key} = {_inline(value)}" for key, value in data.items() if not _is_section(value)]
    for key, value in data.items():
        if _is_section(value):
            lines += _section(key, value)
    return "\n".join(lines) + "\n"


def as_baseline(spec: NetworkSpec, name: str | None = None) -> NetworkSpec:
    """A scaled spec as a baseline of its own: without published rows, which belong to the one it was scaled from.

    Scaled by phi = 0 it stays as it is, as far as its channels are multiples of its divisor.
    """
    alone = spec.scaling.model_copy(update={"published": []})
    return spec.model_copy(update={"scaling": alone, "name": spec.name if name is None else name})


def check_spec_file(path: Path, force: bool = False) -> None:
    """Raise BuildError where `path` may not be written, or where `--spec` would not take it for a file."""
    check_file(path, force)
    if path.suffix != ".toml":
        raise BuildError(f"{path}: expected a file that ends in .toml, as --spec does")


def write_spec(spec: NetworkSpec, path: Path, force: bool = False, comment: str = "") -> None:
    """Write the spec as TOML, whole or not at all. Raises BuildError where `path` may not be written."""
    with staged_file(path, force) as staged:
        staged.write_text(toml_from_spec(spec, comment), encoding="utf-8")


def _printable(line: str) -> str:
    """A file's name may hold what TOML allows in no comment."""
    return "".join(character if character.isprintable() else "?" for character in line)


def _without_nothing(value: Any) -> Any:
    """Without keys whose value is None, the default of all of them: TOML has no null."""
    if isinstance(value, dict):
        return {key: _without_nothing(item) for key, item in value.items() if item is not None}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) or _is_table_list(value)


def _is_table_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _section(key: str, value: Any) -> Iterator[str]:
    """A table, or each of a list of tables, under its own header."""
    header = f"[[{key}]]" if isinstance(value, list) else f"[{key}]"
    for table in value if isinstance(value, list) else [value]:
        yield from ("", header)
        for name, item in table.items():
            yield f"{name} = {_lines(item) if _is_table_list(item) else _inline(item)}"


def _lines(tables: list[dict[str, Any]]) -> str:
    """A list of tables, one a line."""
    return "[\n" + "".join(f"    {_inline(table)},\n" for table in tables) + "]"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value, ensure_ascii=False)  # of a string, a number or a truth value also TOML
