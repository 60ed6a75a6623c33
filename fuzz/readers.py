"""The readers of files that a command line names, each with a maker of wrong inputs and what a command does with one.

`KINDS[name].make(rng)` is an input; `read(path)` returns where it is taken and raises an EffgenError where it is
refused. Anything else is a fault of ours.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tables
from mutations import changed_bytes, changed_tree, changed_value, toml_text
from samples import RECIPE, ROOT, SPEC, as_bytes, graph


@dataclass(frozen=True)
class Kind:
    """`beside`: what lies in the input's folder, made once for each folder."""

    suffix: str
    make: Callable[[random.Random], bytes]
    read: Callable[[Path], object]
    beside: Callable[[Path], None] = lambda folder: None


def _toml_of(texts: Sequence[str]) -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        text = rng.choice(texts)
        if rng.random() < 0.25:
            return changed_bytes(text.encode(), rng)
        return as_bytes(toml_text(changed_tree(tomllib.loads(text), rng)))

    return make


def spec_texts() -> list[str]:
    shipped = sorted((ROOT / "effgen" / "network" / "specs").glob("*.toml"))
    return [SPEC, *(file.read_text(encoding="utf-8") for file in shipped)]


def _target_texts() -> list[str]:
    return [file.read_text(encoding="utf-8") for file in sorted((ROOT / "targets").glob("*.toml"))]


def _read_spec(path: Path) -> None:
    from effgen.network.build import NetworkRequest, build_network

    for phi in ("0", "3"):
        build_network(NetworkRequest(str(path), phi, "formula"))
    build_network(NetworkRequest(str(path), "0"))


def _read_target(path: Path) -> None:
    from effgen.machines.target import load_target

    load_target(path)


def _read_recipe(path: Path) -> None:
    from effgen.method.training.recipe import load_recipe

    load_recipe(path)


def _make_onnx(rng: random.Random) -> bytes:
    from onnx_inputs import onnx_input

    return onnx_input(rng)


def _read_onnx(path: Path) -> None:
    from effgen.graph.output_kind import output_kind
    from effgen.network.file_network import OnnxRequest, read_network

    graph = read_network(OnnxRequest(path)).graph
    for name in graph.outputs:
        output_kind(graph, name)
    graph.dump()


def _make_checkpoint(rng: random.Random) -> bytes:
    from checkpoint_inputs import torch_input

    return torch_input(graph(), rng)


def _make_safetensors(rng: random.Random) -> bytes:
    from checkpoint_inputs import safetensors_input

    return safetensors_input(graph(), rng)


def _read_checkpoint(path: Path) -> None:
    from effgen.network.checkpoints import load_checkpoint

    load_checkpoint(path, graph())


def _make_labels(rng: random.Random) -> bytes:
    names = [f"class {number}" for number in range(10)]
    if rng.random() < 0.5:
        place = rng.randrange(10)
        names[place] = str(changed_value(names[place], rng))
    data = as_bytes("\n".join(names))
    return changed_bytes(data, rng) if rng.random() < 0.6 else data


def _read_labels(path: Path) -> None:
    from effgen.runtime.labels import read_labels

    read_labels(path, 10)


def _journal() -> Kind:
    from storage_inputs import journal_input, read_storage

    return Kind(".log", journal_input, read_storage("journal"))


def _sqlite() -> Kind:
    from storage_inputs import read_storage, sqlite_input

    return Kind(".db", sqlite_input, read_storage("sqlite"))


KINDS = {
    "spec": Kind(".toml", _toml_of(spec_texts()), _read_spec),
    "target": Kind(".toml", _toml_of(_target_texts()), _read_target),
    "recipe": Kind(".toml", _toml_of([RECIPE]), _read_recipe),
    "onnx": Kind(".onnx", _make_onnx, _read_onnx),
    "checkpoint": Kind(".pth", _make_checkpoint, _read_checkpoint),
    "safetensors": Kind(".safetensors", _make_safetensors, _read_checkpoint),
    "records": Kind(".jsonl", tables.make_records, tables.read_records),
    "times": Kind(".times.jsonl", tables.make_times, tables.read_times),
    "results": Kind(".jsonl", tables.make_results, tables.read_results, tables.remember),
    "plan": Kind(".json", tables.make_plan, tables.read_plan),
    "bench": Kind(".json", tables.make_bench, tables.read_bench),
    "labels": Kind(".txt", _make_labels, _read_labels),
    "journal": _journal(),
    "sqlite": _sqlite(),
}


def input_of(kind: str, seed: int, number: int) -> bytes:
    """The input of this number, the same every time."""
    return KINDS[kind].make(random.Random(f"{kind} {seed} {number}"))


@contextlib.contextmanager
def folder_of(kind: str) -> Any:
    """A folder for inputs of a kind, with what lies beside them."""
    with tempfile.TemporaryDirectory(prefix=f"effgen-fuzz-{kind}-") as name:
        KINDS[kind].beside(Path(name))
        yield Path(name)
