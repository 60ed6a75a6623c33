"""The readers of files that a command line names, each with a maker of wrong inputs and what a command does with one.

`KINDS[name].make(rng)` is an input; `read(path)` returns where it is taken and raises an EffgenError where it is
refused. Anything else is a fault of ours.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mutations import changed_bytes, changed_tree, changed_value, json_text, toml_text

from effgen.graph import Graph
from effgen.measure.carried.lines import digest_of, sealed

ROOT = Path(__file__).parents[1]

#: A network with most kinds of parts.
SPEC = """
name = "small"
activation = "silu"
input = { resolution = 32 }
stem = { channels = 8 }
head = { channels = 32 }
classifier = { classes = 10 }
scaling = { published = [ { name = "b0", phi = 0, width = 1.0, depth = 1.0, resolution = 32 } ] }
stages = [
    { block = "mbconv", kernel = 3, stride = 1, channels = 8, repeats = 1, squeeze_excite = { ratio = 0.25 } },
    { block = "mbconv", kernel = 5, stride = 2, channels = 16, repeats = 2, expand_ratio = 4.0, more_kernels = [3] },
    { block = "bottleneck", kernel = 3, stride = 2, channels = 24, repeats = 1 },
]
"""

RECIPE = """
epochs = 3
batch_size = 8
optimizer = "rmsprop"
learning_rate = 0.01
schedule = "exponential"
warmup_epochs = 1.0
augment = { shift = 0.1, min_area = 0.5, max_aspect = 2.0, flip = true }
"""


@dataclass(frozen=True)
class Kind:
    """`beside`: what lies in the input's folder, made once for each folder."""

    suffix: str
    make: Callable[[random.Random], bytes]
    read: Callable[[Path], object]
    beside: Callable[[Path], None] = lambda folder: None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _toml_of(texts: Sequence[str]) -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        text = rng.choice(texts)
        if rng.random() < 0.25:
            return changed_bytes(text.encode(), rng)
        return _bytes(toml_text(changed_tree(tomllib.loads(text), rng)))

    return make


def _spec_texts() -> list[str]:
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


@cache
def _graph() -> Graph:
    from effgen.network.build import network_from_spec
    from effgen.network.spec import parse_spec

    return network_from_spec(parse_spec(SPEC, "small")).graph


def _make_checkpoint(rng: random.Random) -> bytes:
    from checkpoint_inputs import torch_input

    return torch_input(_graph(), rng)


def _make_safetensors(rng: random.Random) -> bytes:
    from checkpoint_inputs import safetensors_input

    return safetensors_input(_graph(), rng)


def _read_checkpoint(path: Path) -> None:
    from effgen.network.checkpoints import load_checkpoint

    load_checkpoint(path, _graph())


def _lines(lines: Sequence[Any], rng: random.Random, seal: bool = False) -> bytes:
    """Lines of JSON, one or two of them wrong; `seal`: some of those with the right digest."""
    made = []
    for line in lines:
        wrong = rng.random() < 2 / len(lines)
        content = changed_tree(line, rng) if wrong else line
        if wrong and seal and rng.random() < 0.7:
            with contextlib.suppress(Exception):  # of what json.dumps itself refuses
                content = sealed(content)
        made.append(json_text(content))
    data = _bytes("\n".join(made) + "\n")
    return changed_bytes(data, rng) if rng.random() < 0.2 else data


@cache
def _records() -> list[Any]:
    text = (ROOT / "schedules" / "records" / "x86-64-v3" / "records.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()[:12]]


@cache
def _machine() -> Any:
    from effgen.machines.target import load_target

    return load_target("x86-64-v3")


def _make_records(rng: random.Random) -> bytes:
    machine = _machine()
    own = {"mcpu": machine.processor, "lanes": machine.lanes, "cores": machine.threads, "kept": True}
    return _lines([{**record, **own} for record in _records()], rng)


def _read_records(path: Path) -> None:
    from effgen.kernels.kinds import workload_from_name
    from effgen.records.choice import KernelChoices

    choices = KernelChoices(_machine(), path)
    for record in _records():
        choices.choice(workload_from_name(record["kernel"]))


@cache
def _times() -> list[Any]:
    from dataclasses import asdict

    from effgen.compiler.blocks import kernel_counts
    from effgen.method.latency.samples import sample_networks
    from effgen.method.latency.times import KernelSetting, KernelTime, NetworkTime
    from effgen.method.latency.work import work_of
    from effgen.network.build import network_from_spec

    machine = _machine()
    setting, found = KernelSetting.of(machine), []
    for spec in sample_networks(1, "fuzz"):
        workloads = [workload.without_ahead for workload in kernel_counts(network_from_spec(spec).graph)]
        for workload in workloads:
            work = work_of(workload, machine, 1000.0)
            for how in ("network", "alone"):
                found.append(KernelTime(workload.name, {"rows": 4}, how, workload.macs * 1e-10 + 1e-6, work, setting))
        found.append(NetworkTime(spec.name, 0.01, 0.009, setting))
    return [json.loads(json.dumps(asdict(each), default=dict)) for each in found]


def _make_times(rng: random.Random) -> bytes:
    return _lines(_times(), rng)


@dataclass(frozen=True)
class _Choice:
    """As much of a choice as predicting needs."""

    decisions: dict[str, int]
    cycles: float | None = None
    record: Any = None
    own: bool = True


def _read_times(path: Path) -> None:
    from effgen.method.latency.predictor import Predictor
    from effgen.method.latency.times import load_times

    # The table is found beside a database.
    times = load_times(_machine(), path.with_suffix("").with_suffix(".jsonl"))
    predictor = Predictor(_machine(), times, lambda workload: _Choice({"rows": 4}, 1000.0))  # type: ignore[arg-type, return-value]
    predictor.predict(_graph())


def _plan() -> dict[str, Any]:
    kernels = [
        {
            "name": f"f32_pointwise_m49_k320_n{channels}_silu",
            "rule": "pointwise",
            "incumbent": None,
            "candidates": [{"index": number * 10 + point, "decisions": {"rows": point}} for point in range(4)],
        }
        for number, channels in enumerate((640, 1280))
    ]
    content = {"format": 1, "tvm": "0.27", "mcpu": "znver4", "lanes": 8, "cores": 2, "kernels": kernels}
    return {"id": digest_of(content), **content}


def _results() -> list[Any]:
    timing = {"seconds": 1e-4, "incumbent_seconds": None, "ratio": 1.0, "wins": 1.0, "rounds": 10}
    plan = _plan()
    return [
        sealed(
            {
                "plan": plan["id"],
                "candidate": candidate["index"],
                "status": "ok",
                "error": "",
                "incumbent": None,
                "timing": timing,
                "device": "a machine",
            }
        )
        for kernel in plan["kernels"]
        for candidate in kernel["candidates"]
    ]


def _make_results(rng: random.Random) -> bytes:
    return _lines(_results(), rng, seal=True)


def _remember(folder: Path) -> None:
    from effgen.tuning.offline.results import remember

    remember(folder / "records.jsonl", _plan())


def _read_results(path: Path) -> None:
    from effgen.tuning.offline.results import read_results

    read_results(path, path.parent / "records.jsonl")


def _make_plan(rng: random.Random) -> bytes:
    """Some with the right digest, which is the file's name."""
    plan = changed_tree(_plan(), rng)
    data = _bytes(json_text(plan))
    return changed_bytes(data, rng) if rng.random() < 0.2 else data


def _read_plan(path: Path) -> None:
    """As the plan of results that are right but for their digest, where that can be computed."""
    from effgen.tuning.offline.results import plans_beside, read_results

    name = _plan()["id"]
    with contextlib.suppress(Exception):  # of what json itself refuses
        content = json.loads(path.read_bytes())
        name = digest_of({key: value for key, value in content.items() if key != "id"})
    folder = plans_beside(path.parent / "records.jsonl")
    folder.mkdir(exist_ok=True)
    shutil.copyfile(path, folder / f"{name}.json")
    lines = [sealed({**line, "plan": name}) for line in _results()]
    (path.parent / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        read_results(path.parent / "results.jsonl", path.parent / "records.jsonl")
    finally:
        shutil.rmtree(folder)


@cache
def _reports() -> list[Any]:
    files = sorted((ROOT / "benchmarks" / "results").rglob("*.json"), key=lambda file: file.stat().st_size)
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    reports = [each for each in found if isinstance(each, dict) and each.get("kind") in ("bench", "layers")]
    return [next(each for each in reports if each["kind"] == kind) for kind in ("bench", "layers")]


def _make_bench(rng: random.Random) -> bytes:
    report = changed_tree(rng.choice(_reports()), rng)
    data = _bytes(json_text(report))
    return changed_bytes(data, rng) if rng.random() < 0.2 else data


def _read_bench(path: Path) -> None:
    from rich.console import Console

    from effgen.report.compare import (
        csv_from_comparison,
        json_from_comparison,
        markdown_from_comparison,
        tables_from_comparison,
    )
    from effgen.results.comparison import compare_files

    comparison = compare_files([path])
    console = Console(file=io.StringIO(), width=200)
    for table in tables_from_comparison(comparison):
        console.print(table)
    json.dumps(json_from_comparison(comparison), allow_nan=False).encode()
    csv_from_comparison(comparison).encode()
    markdown_from_comparison(comparison).encode()


def _make_labels(rng: random.Random) -> bytes:
    names = [f"class {number}" for number in range(10)]
    if rng.random() < 0.5:
        place = rng.randrange(10)
        names[place] = str(changed_value(names[place], rng))
    data = _bytes("\n".join(names))
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
    "spec": Kind(".toml", _toml_of(_spec_texts()), _read_spec),
    "target": Kind(".toml", _toml_of(_target_texts()), _read_target),
    "recipe": Kind(".toml", _toml_of([RECIPE]), _read_recipe),
    "onnx": Kind(".onnx", _make_onnx, _read_onnx),
    "checkpoint": Kind(".pth", _make_checkpoint, _read_checkpoint),
    "safetensors": Kind(".safetensors", _make_safetensors, _read_checkpoint),
    "records": Kind(".jsonl", _make_records, _read_records),
    "times": Kind(".times.jsonl", _make_times, _read_times),
    "results": Kind(".jsonl", _make_results, _read_results, _remember),
    "plan": Kind(".json", _make_plan, _read_plan),
    "bench": Kind(".json", _make_bench, _read_bench),
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
