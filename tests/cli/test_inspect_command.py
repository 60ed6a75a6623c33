"""`effgen inspect`: tables, JSON and overrides."""

import json
from pathlib import Path
from typing import Any


def test_inspect_prints_a_table_and_the_resolved_network(run: Any) -> None:
    code, out, err = run("inspect", "--phi", "3", "--classes", "10")
    assert code == 0 and "stages.6" in out and "total" in out
    assert "width 1.2, depth 1.4, resolution 300 (published row b3)" in err
    assert "10 classes" in err


def test_quiet_leaves_the_result(run: Any) -> None:
    code, out, err = run("inspect", "-q")
    assert code == 0 and "total" in out and err == ""


def test_json_on_standard_output_is_alone_there(run: Any) -> None:
    code, out, err = run("inspect", "--phi", "0", "--json", "-")
    data = json.loads(out)
    assert code == 0 and "published row b0" in err
    assert {"parameters", "macs", "resolution", "stages", "coefficients", "law", "source", "batch"} <= data.keys()
    assert (data["parameters"], data["macs"], data["resolution"]) == (5_288_548, 385_814_752, 224)
    assert len(data["stages"]) == 10


def test_json_file_comes_beside_the_table(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("inspect", "--json", tmp_path / "report.json")
    assert code == 0 and "total" in out
    assert json.loads((tmp_path / "report.json").read_text())["batch"] == 1


def test_phi_without_a_row_says_so(run: Any) -> None:
    _, out, err = run("inspect", "--phi", "2.5", "--json", "-")
    assert "warning: phi 2.5 has no published row: scaled by the formula" in err
    data = json.loads(out)
    assert data["law"] == "formula" and "no published row" in data["source"]
    _, _, err = run("inspect", "--phi", "2.5", "--law", "formula")
    assert "warning" not in err


def test_overrides(run: Any) -> None:
    words = ("--width", "0.5", "--depth", "0.5", "--resolution", "96", "--norm-eps", "tensorflow", "--padding", "same")
    data = json.loads(run("inspect", *words, "--batch", "2", "--json", "-")[1])
    assert (data["coefficients"]["width"], data["resolution"], data["batch"]) == (0.5, 96, 2)
    assert (data["norm_eps"], data["padding"]) == (1e-3, "same")
    assert "by hand width=0.5, depth=0.5, resolution=96" in data["source"]


def test_one_dimension_beside_the_baseline(run: Any) -> None:
    code, out, _ = run("inspect", "--resolution", "2x", "-q")
    assert code == 0 and "448x448" in out
    assert "3.99x the MACs and 1.00x the parameters of the baseline (efficientnet phi=0)" in out
    data = json.loads(run("inspect", "--depth", "4", "--batch", "2", "--classes", "10", "--json", "-")[1])
    base = json.loads(run("inspect", "--classes", "10", "--json", "-")[1])
    assert {key: data["baseline"][key] for key in ("model", "parameters", "macs")} == {
        "model": "efficientnet phi=0", "parameters": base["parameters"], "macs": base["macs"],
    }  # fmt: skip
    assert data["baseline"]["macs_ratio"] == data["macs"] / base["macs"]
    assert data["baseline"]["parameters_ratio"] == data["parameters"] / base["parameters"]
    assert "of the baseline" not in run("inspect", "-q")[1]
