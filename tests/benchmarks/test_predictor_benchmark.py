"""benchmarks/predictor.py: what it prints, and what it fails."""

import argparse
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from effgen.errors import EffgenError, RegressionError
from effgen.graph import Graph
from effgen.method.latency.predictor import LatencyPrediction
from effgen.network import Network

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "predictor.py"


@dataclass
class Knows:
    """Predicts the true time and `off` percent more."""

    off: float

    def predict(self, graph: Graph) -> LatencyPrediction:
        return LatencyPrediction(graph.macs * 1e-11 * (1 + self.off / 100), 0.25, 7)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script on a machine where a multiply-add takes 10 ps; predictions are 8% off, with a table 2%."""
    found = importlib.util.spec_from_file_location("predictor_benchmark", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(__import__("sys").modules, "predictor_benchmark", module)  # for its dataclasses
    found.loader.exec_module(module)

    def calibrate(target: str, threads: int | None, database: Path, tell: Any) -> int:
        database.with_suffix(".times.jsonl").write_text("calibrated\n")
        return 1

    def complete_table(graphs: list[Graph], target: str, threads: int | None, database: Path) -> int:
        assert database.with_suffix(".times.jsonl").read_text() == "calibrated\n"
        database.with_suffix(".times.jsonl").write_text("calibrated\ncompleted\n")
        return 5

    def open_predictor(target: str, threads: int | None, database: Path) -> Knows:
        return Knows(2.0 if "completed" in database.with_suffix(".times.jsonl").read_text() else 8.0)

    def measure_networks(networks: Mapping[str, Network], *others: Any) -> dict[str, Any]:
        times = {name: network.graph.macs * 1e-8 for name, network in networks.items()}
        return {name: SimpleNamespace(results=[SimpleNamespace(median_ms=ms)]) for name, ms in times.items()}

    for name, stand_in in {
        "calibrate": calibrate,
        "complete_table": complete_table,
        "open_predictor": open_predictor,
        "measure_networks": measure_networks,
    }.items():
        monkeypatch.setattr(module, name, stand_in)
    return module


def options(**changed: object) -> argparse.Namespace:
    plain = {"networks": 3, "seed": 0, "threads": None, "seconds": 1.0, "table": None, "no_table": False}
    return argparse.Namespace(**{**plain, "json": None, "gate": None, **changed})


def test_errors_of_both_predictions(script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script.run(options(json=tmp_path / "rows.json"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| judge_0_0", "| judge_0_1", "| judge_0_2"]
    assert all("| +8.0% |" in line and line.endswith("| +2.0% |") for line in lines[2:5])
    assert lines[-2] == "predicted: median error 8.0%, worst 8.0%, bias +8.0%"
    assert lines[-1] == "with a completed table: median error 2.0%, worst 2.0%, bias +2.0%"
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["predicted"] / row["measured"] for row in rows] == pytest.approx([1.08] * 3)


def test_runs_see_no_kernel_that_an_earlier_one_completed(script: ModuleType, tmp_path: Path) -> None:
    for _ in range(2):  # the second completes the calibrated table, as the first did
        script.run(options(table=tmp_path))
        assert (tmp_path / "records.times.jsonl").read_text() == "calibrated\n"


def test_the_completed_copy_has_the_tuning_records(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    complete = script.complete_table

    def watched(graphs: list[Graph], target: str, threads: int | None, database: Path) -> int:
        seen.append(database.read_text())
        assert database.parent != tmp_path
        return int(complete(graphs, target, threads, database))

    monkeypatch.setattr(script, "complete_table", watched)
    (tmp_path / "records.jsonl").write_text("records\n")
    script.run(options(table=tmp_path))
    assert seen == ["records\n"]


def test_without_a_completed_table_nothing_is_said_of_one(
    script: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script.run(options(no_table=True, json=tmp_path / "rows.json"))
    out = capsys.readouterr().out
    assert "with" not in out and "table" not in out
    assert {line.count("|") for line in out.splitlines() if line.startswith("|")} == {9}
    assert out.splitlines()[-1] == "predicted: median error 8.0%, worst 8.0%, bias +8.0%"
    assert [row["from_table"] for row in json.loads((tmp_path / "rows.json").read_text())] == [None] * 3


@pytest.mark.parametrize(
    ("option", "value", "refusal"),
    [
        ("networks", 0, "--networks 0: expected 1 or more"),
        ("networks", -3, "--networks -3: expected 1 or more"),
        ("json", "missing/rows.json", "--json {path}: {path.parent} is no directory"),
        ("table", "file", "--table {path}: not a folder; give another path"),
    ],
)
def test_bad_options_are_refused_before_the_run(
    script: ModuleType, option: str, value: Any, refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(script, "judge", lambda *rest: pytest.fail("it ran"))
    value = tmp_path / value if isinstance(value, str) else value
    with pytest.raises(EffgenError) as found:
        script.run(options(**{option: value}))
    assert str(found.value).startswith(refusal.format(path=value)) and "\n" not in str(found.value)


@pytest.mark.parametrize(("gate", "fails"), [(7.9, True), (8.1, False), (None, False)])
def test_gate(script: ModuleType, gate: float | None, fails: bool) -> None:
    if fails:
        with pytest.raises(RegressionError, match=r"the median error is 8.0%; --gate 7.9"):
            script.run(options(gate=gate))
    else:
        script.run(options(gate=gate, no_table=True))
