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

from effgen.errors import RegressionError
from effgen.graph import Graph
from effgen.latency.predictor import Prediction
from effgen.network import Network

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "predictor.py"


@dataclass
class Knows:
    """Predicts the true time and `off` percent more."""

    off: float

    def predict(self, graph: Graph) -> Prediction:
        return Prediction(graph.macs * 1e-11 * (1 + self.off / 100), 0.25, 7)


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


def test_predictions_of_a_second_run_see_no_kernel_of_the_judged_networks(script: ModuleType, tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "completed.times.jsonl").unlink(missing_ok=True)
        script.run(options(table=tmp_path))
        assert (tmp_path / "records.times.jsonl").read_text() == "calibrated\n"


@pytest.mark.parametrize(("gate", "fails"), [(7.9, True), (8.1, False), (None, False)])
def test_gate(script: ModuleType, gate: float | None, fails: bool) -> None:
    if fails:
        with pytest.raises(RegressionError, match=r"the median error is 8.0%; --gate 7.9"):
            script.run(options(gate=gate))
    else:
        script.run(options(gate=gate, no_table=True))
