"""Some of the inputs of `fuzz/campaign.py`, the same every time: each is read, or refused in a line, in little time."""

from __future__ import annotations

import random
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tables
from mutations import HOSTILE, Raw, changed_bytes, changed_tree, json_text, nested, toml_text
from readers import KINDS, folder_of, input_of, spec_texts
from samples import RECIPE

from effgen.errors import EffgenError

#: Inputs of each kind; those that take longer have fewer.
INPUTS = dict.fromkeys(KINDS, 40) | {"safetensors": 20, "sqlite": 20, "target": 20, "times": 20}


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_is_read_or_refused_in_a_line(kind: str) -> None:
    ends, start = [], time.process_time()
    with folder_of(kind) as folder:
        path = folder / f"input{KINDS[kind].suffix}"
        for number in range(INPUTS[kind]):
            path.write_bytes(input_of(kind, 7, number))
            ends.append(end_of(kind, path))
    assert any(ends) or kind in ("records", "times")  # of a line that is none the rest is read
    assert time.process_time() - start < 120


def end_of(kind: str, path: Path) -> bool:
    """Whether it was refused."""
    try:
        KINDS[kind].read(path)
        return False
    except EffgenError as error:
        line = " ".join(str(error).split())
        assert 0 < len(line) < 5000
        return True


def test_inputs_are_the_same_every_time() -> None:
    for kind in ("spec", "onnx", "results"):
        assert input_of(kind, 1, 5) == input_of(kind, 1, 5) != input_of(kind, 1, 6)


def test_what_is_not_changed_is_taken() -> None:
    """The campaign's good inputs are good ones: what is refused is refused for what was changed."""
    texts: list[tuple[str, list[Any]]] = [
        ("spec", [toml_text(tomllib.loads(text)) for text in spec_texts()[:3]]),
        ("recipe", [toml_text(tomllib.loads(RECIPE))]),
        ("plan", [json_text(tables.plan())]),
        ("results", ["\n".join(map(json_text, tables.results()))]),
        ("bench", [json_text(report) for report in tables.reports()]),
    ]
    for kind, good in texts:
        with folder_of(kind) as folder:
            path = folder / f"input{KINDS[kind].suffix}"
            for text in good:
                path.write_text(text)
                KINDS[kind].read(path)


def test_mutations_change_something() -> None:
    tree = {"a": [1, 2, {"b": "c"}], "d": 0.5}
    rng = random.Random(3)
    assert sum(changed_tree(tree, rng) != tree for _ in range(100)) > 80
    assert sum(changed_bytes(b"hello, world", rng) != b"hello, world" for _ in range(100)) > 80
    assert json_text([Raw("9" * 9), None, True, 0.5, "\n"]) == '[999999999, null, true, 0.5, "\\u000a"]'
    assert nested(2, lambda value: [value]) in ([[1]],) and len(HOSTILE) > 40
