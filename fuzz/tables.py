"""What effgen itself writes, line by line or as one text of JSON: records, times, results, plans, reports."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mutations import changed_bytes, changed_tree, json_text
from samples import ROOT, as_bytes, graph

from effgen.measure.carried.lines import digest_of, sealed


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
    data = as_bytes("\n".join(made) + "\n")
    return changed_bytes(data, rng) if rng.random() < 0.2 else data


@cache
def _records() -> list[Any]:
    text = (ROOT / "schedules" / "records" / "x86-64-v3" / "zen4.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()[:12]]


@cache
def _machine() -> Any:
    from effgen.machines.target import load_target

    return load_target("x86-64-v3")


def make_records(rng: random.Random) -> bytes:
    machine = _machine()
    own = {"mcpu": machine.processor, "lanes": machine.lanes, "cores": machine.threads, "kept": True}
    return _lines([{**record, **own} for record in _records()], rng)


def read_records(path: Path) -> None:
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


def make_times(rng: random.Random) -> bytes:
    return _lines(_times(), rng)


@dataclass(frozen=True)
class _Choice:
    """As much of a choice as predicting needs."""

    decisions: dict[str, int]
    cycles: float | None = None
    measured: Any = None


def read_times(path: Path) -> None:
    from effgen.method.latency.predictor import Predictor
    from effgen.method.latency.times import load_times

    # The table is found beside a database.
    times = load_times(_machine(), path.with_suffix("").with_suffix(".jsonl"))
    predictor = Predictor(_machine(), times, lambda workload: _Choice({"rows": 4}, 1000.0))  # type: ignore[arg-type, return-value]
    predictor.predict(graph())


def plan() -> dict[str, Any]:
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


def results() -> list[Any]:
    timing = {"seconds": 1e-4, "incumbent_seconds": None, "ratio": 1.0, "wins": 1.0, "rounds": 10}
    asked = plan()
    return [
        sealed(
            {
                "plan": asked["id"],
                "candidate": candidate["index"],
                "status": "ok",
                "error": "",
                "incumbent": None,
                "timing": timing,
                "device": "a machine",
            }
        )
        for kernel in asked["kernels"]
        for candidate in kernel["candidates"]
    ]


def make_results(rng: random.Random) -> bytes:
    return _lines(results(), rng, seal=True)


def remember(folder: Path) -> None:
    from effgen.tuning.offline.results import remember

    remember(folder / "records.jsonl", plan())


def read_results(path: Path) -> None:
    from effgen.tuning.offline.results import read_results

    read_results(path, path.parent / "records.jsonl")


def make_plan(rng: random.Random) -> bytes:
    """Some with the right digest, which is the file's name."""
    changed = changed_tree(plan(), rng)
    data = as_bytes(json_text(changed))
    return changed_bytes(data, rng) if rng.random() < 0.2 else data


def read_plan(path: Path) -> None:
    """As the plan of results that are right but for their digest, where that can be computed."""
    from effgen.tuning.offline.results import plans_beside, read_results

    name = plan()["id"]
    with contextlib.suppress(Exception):  # of what json itself refuses
        content = json.loads(path.read_bytes())
        name = digest_of({key: value for key, value in content.items() if key != "id"})
    folder = plans_beside(path.parent / "records.jsonl")
    folder.mkdir(exist_ok=True)
    shutil.copyfile(path, folder / f"{name}.json")
    lines = [sealed({**line, "plan": name}) for line in results()]
    (path.parent / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        read_results(path.parent / "results.jsonl", path.parent / "records.jsonl")
    finally:
        shutil.rmtree(folder)


@cache
def reports() -> list[Any]:
    files = sorted((ROOT / "benchmarks" / "results").rglob("*.json"), key=lambda file: file.stat().st_size)
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    good = [each for each in found if isinstance(each, dict) and each.get("kind") in ("bench", "layers")]
    return [next(each for each in good if each["kind"] == kind) for kind in ("bench", "layers")]


def make_bench(rng: random.Random) -> bytes:
    report = changed_tree(rng.choice(reports()), rng)
    data = as_bytes(json_text(report))
    return changed_bytes(data, rng) if rng.random() < 0.2 else data


def read_bench(path: Path) -> None:
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
