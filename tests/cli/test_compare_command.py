"""`effgen compare`: its files, tables, CSV, Markdown and JSON, its gate, and what it refuses."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import one_line
from reports import FACTS, bench_report, facts, layers_report, written

from effgen.cli.compare import repeated
from effgen.errors import EffgenError, ResultsError
from effgen.files.text import write_text
from effgen.report.compare import (
    csv_from_comparison,
    json_from_comparison,
    markdown_from_comparison,
    notes_from_comparison,
    tables_from_comparison,
)
from effgen.report.text import count_text
from effgen.results.comparison import Comparison, compare_files
from effgen.results.rows import setting_of
from effgen.results.sources import read_sources

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two networks by two backends, kernels of one, and something else beside them."""
    made = tmp_path / "results"
    made.mkdir()
    written(bench_report(onnxruntime=6.5), made / "b0.json")
    written(bench_report(facts(1, macs=686_802_832), effgen=9.0, onnxruntime=12.0), made / "b1.json")
    written(layers_report(), made / "b0-layers.json")
    (made / "notes.txt").write_text("no results")
    return made


def test_folder_stands_for_its_files(folder: Path) -> None:
    bench, layers = read_sources([folder], "FILE")
    assert [source.name for source in bench] == ["b0.json", "b1.json"]
    assert [source.name for source in layers] == ["b0-layers.json"]
    again = folder / "deeper"
    again.mkdir()
    written(bench_report(), again / "b0.json")
    names = [source.name for source in read_sources([folder, again / "b0.json"], "FILE")[0]]
    assert names == [str(folder / "b0.json"), "b1.json", str(again / "b0.json")]


def test_files_that_cannot_be_taken(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"FILE b0.json: given 2 times"):
        read_sources([folder, folder / "b0.json"], "FILE")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match=r"--baseline .*empty: no \*.json in it"):
        read_sources([tmp_path / "empty"], "--baseline")
    with pytest.raises(ResultsError, match=r"--baseline: no results of effgen bench in it"):
        compare_files([folder], [folder / "b0-layers.json"])
    with pytest.raises(ResultsError, match=r"FILE: no results of effgen bench to compare"):
        compare_files([folder / "b0-layers.json"], [folder / "b0.json"])


@pytest.fixture
def comparison(folder: Path, tmp_path: Path) -> Comparison:
    """Against a baseline in which B0 was faster."""
    return compare_files([folder], [written(bench_report(effgen=4.0, onnxruntime=6.5), tmp_path / "old.json")])


def test_csv(comparison: Comparison) -> None:
    found = list(csv.DictReader(csv_from_comparison(comparison).splitlines()))
    assert [(row["model"][-1], row["backend"], row["median_ms"]) for row in found] == [
        ("0", "effgen", "5.0"), ("0", "onnxruntime", "6.5"), ("1", "effgen", "9.0"), ("1", "onnxruntime", "12.0"),
    ]  # fmt: skip
    assert found[1]["ratio_to_effgen"] == "1.3" and found[0]["bytes"] == str(283_592 + 21_199_744)
    assert found[0]["source"] == "b0.json" and found[0]["disturbed"] == "False"


def test_markdown_escapes_what_would_be_markup(folder: Path) -> None:
    written(bench_report(replace(FACTS, name="a|b <script>")), folder / "odd.json")
    text = markdown_from_comparison(compare_files([folder]))
    assert "| a\\|b &lt;script&gt; |" in text and "<script>" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_json_and_tables(comparison: Comparison) -> None:
    data = json.loads(json.dumps(json_from_comparison(comparison, 5.0), allow_nan=False))
    assert (data["format"], data["kind"]) == (1, "comparison")
    assert [data["rows"][index]["model"] for index in data["front"]] == ["efficientnet phi=0", "efficientnet phi=1"]
    (change,) = data["regressions"]["changes"]
    assert change["change"] == pytest.approx(0.25) and change["passed"] is False
    assert [case["model"] for case in data["regressions"]["only_now"]] == ["efficientnet phi=1"]
    assert data["paper"][0]["published"]["ratio"] == 5.7 and data["paper"][1]["measured"] == []
    results, changes = tables_from_comparison(comparison, 5.0)
    assert (results.row_count, changes.row_count) == (4, 1)  # type: ignore[union-attr]
    assert "not in the baseline: efficientnet phi=1" in "\n".join(notes_from_comparison(comparison))


@pytest.mark.parametrize(("count", "text"), [(7, "7"), (999_600, "1 M"), (385_814_752, "386 M"), (37.7e9, "37.7 G")])
def test_counts_have_three_digits(count: int, text: str) -> None:
    assert count_text(int(count)) == text


def test_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    write_text("--csv", path, "old")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(EffgenError, match=r"--csv .*x.csv: cannot write: No space left"):
        write_text("--csv", path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_is_written_through(tmp_path: Path) -> None:
    write_text("--json", Path("/dev/null"), "x")
    assert not Path("/dev/null").is_file()
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text("--json", tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_every_baseline_gets_its_option() -> None:
    words = ["a.json", "--baseline", "b.json", "c.json", "--gate", "5", "-o", "x"]
    assert repeated(words) == ["a.json", "--baseline", "b.json", "--baseline", "c.json", "--gate", "5", "-o", "x"]
    assert repeated(["--json", "-", "a"]) == ["--json", "-", "a"]


def test_command(run: Any, folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.glob("*.json"))
    code, out, err = run("compare", *files, "--csv", tmp_path / "x.csv", "--markdown", tmp_path / "x.md")
    assert code == 0 and "onnxruntime" in out and "vs effgen" in out and err == ""
    assert (tmp_path / "x.csv").read_text().count("\n") == 5 and (tmp_path / "x.md").read_text().startswith("| model")
    code, out, _ = run("compare", folder, "--json", "-")
    assert code == 0 and len(json.loads(out)["rows"]) == 4


def test_command_warns(run: Any, folder: Path) -> None:
    written(bench_report(facts(2), other_cpus=0.9, onnxruntime=15.0), folder / "b2.json")
    _, _, err = run("compare", folder)
    assert err.startswith("warning: 1 of 4 files disturbed")


def test_gate_of_the_command(run: Any, folder: Path, tmp_path: Path) -> None:
    old = [written(bench_report(effgen=4.0, onnxruntime=6.5), tmp_path / "one.json")]
    old.append(written(bench_report(facts(1), effgen=9.0, onnxruntime=12.0), tmp_path / "two.json"))
    code, out, err = run("compare", folder, "--baseline", *old, "--gate", "30")
    assert code == 0 and "beside the baseline, gate 30%" in out, err
    code, out, err = run("compare", folder, "--baseline", *old, "--gate", "5", "--json", tmp_path / "x.json")
    assert code == 3 and "slower" in out and err.count("\n") == 1
    assert err.startswith("error: 1 of 2 cases more than 5% slower than --baseline; worst: efficientnet phi=0, ")
    assert json.loads((tmp_path / "x.json").read_text())["regressions"]["gate_percent"] == 5
    assert run("compare", folder, "--gate", "5")[0] == 2
    assert run("compare", "--baseline", *old)[0] == 2


def test_gate_and_cases_that_vanished(run: Any, folder: Path, tmp_path: Path) -> None:
    words = ("compare", folder / "b0.json", "--baseline", *sorted(folder.glob("b?.json")))
    code, out, err = run(*words, "--gate", "5")
    assert code == 3 and err.startswith(
        "error: 1 of 2 cases of --baseline not measured again; first: efficientnet phi=1"
    )
    assert err.count("\n") == 1 and "not measured again: efficientnet phi=1" in out
    assert run(*words, "--gate", "5", "--allow-missing")[0] == 0
    assert run(*words)[0] == 0
    assert run(*words, "--allow-missing")[0] == 2


def test_gate_does_not_trust_another_peer(run: Any, folder: Path, tmp_path: Path) -> None:
    """Everything twice as fast before, by other versions of the peers on more memory: the ratios alone are the same."""
    old = tmp_path / "old"
    old.mkdir()
    for file in sorted(folder.glob("b?.json")):
        data = json.loads(file.read_text())
        data["machine"]["memory_bytes"] *= 2
        for each in data["results"]:
            for key in ("median_ms", "p10_ms", "p90_ms", "min_ms"):
                each[key] /= 2
            each["version"] = "0.9" if each["backend"] != "effgen" else each["version"]
        (old / file.name).write_text(json.dumps(data))
    code, data, err = run("compare", folder, "--baseline", old, "--gate", "5", "--json", "-")
    assert code == 3 and "error: 2 of 2 cases more than 5% slower" in err and "+100.0%" in err
    assert "warning: onnxruntime: 2 versions" in err and "its memory differs" in err
    _, out, _ = run("compare", folder, "--baseline", old)
    assert "+100.0%" in out and "no yardstick" in " ".join(out.split()) and "…" not in out
    notes = [change["note"] for change in json.loads(data)["regressions"]["changes"]]
    assert all(note.startswith("onnxruntime 1.0, was 0.9: no yardstick") for note in notes) and len(notes) == 2


def test_command_refuses_with_one_line(run: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    assert "bad.json: no JSON, or cut short" in one_line(run("compare", tmp_path / "bad.json"))
    assert "No such file" in one_line(run("compare", tmp_path / "absent.json"))
    assert "--csv" in one_line(run("compare", folder, "--csv", tmp_path / "absent" / "x.csv"))
    assert "-o/--output" in one_line(run("compare", folder, "-o", tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.json", "results"]


def test_baseline_that_ships_is_readable() -> None:
    bench, layers = read_sources([ROOT / "benchmarks" / "baseline"], "--baseline")
    assert [source.report.model.phi for source in bench] == [float(phi) for phi in range(8)] and not layers
    assert {setting_of(source.report).title for source in bench} == {
        "AMD EPYC, 2 CPUs, 2 threads, batch 1, float32, target cpu"
    }
