"""Runs of `effgen tune` as rows: which are beside a neighbour, what counts as harm, going on where it stood."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tuning_runs
from tuning_runs import Row, Settings, is_loaded, known, row_of, summary

from effgen.judge.duel import Duel

REPORT: dict[str, Any] = {"trials": 300, "said": "better", "speedup": 1.05}
REPORT["kernels"] = [{"replaced": True}, {"replaced": False}, {"replaced": True}]


def row(run: int, median: float, loaded: bool = False) -> Row:
    return Row(run, loaded, 300, 2, "better", 1.05, median, median - 0.01, 0.0)


@pytest.mark.parametrize(("runs", "loaded"), [(20, 10), (3, 1), (2, 2), (5, 0), (1, 1)])
def test_neighbours_are_spread_evenly(runs: int, loaded: int) -> None:
    found = [is_loaded(run, runs, loaded) for run in range(runs)]
    assert sum(found) == loaded
    assert abs(2 * sum(found[: runs // 2]) - loaded) <= 2


def test_row_is_before_over_after() -> None:
    duel = Duel(((2.0, 2.0, 2.0, 2.0),), ((1.6, 1.6, 1.6, 2.5),), 0.3)
    found = row_of(4, True, REPORT, duel)
    assert (found.replaced, found.candidates, found.told) == (2, 300, 1.05)
    assert found.median == pytest.approx(1.25) and found.quartile == pytest.approx(2.0 / 1.825)
    assert found.line.split() == ["4", "busy", "300", "2", "better", "1.050", "1.250", "1.096", "?"]
    unchanged = row_of(4, False, {**REPORT, "said": "nothing", "speedup": None, "kernels": []}, None)
    assert unchanged.median == 1.0 and unchanged.line.split() == ["4", "nobody", "300", "0", "nothing", "same"]


def test_summary_tells_the_least() -> None:
    lines = summary([row(0, 1.04), row(1, 0.98, loaded=True), row(2, 1.0)])
    assert lines[0].endswith("3 runs, before / after: least 0.980, mean 1.007")
    assert "nobody: 2 runs" in lines[1] and "least 1.000, mean 1.020" in lines[1] and "busy: 1 runs" in lines[2]
    assert len(summary([row(0, 1.0)])) == 2


def bench(monkeypatch: pytest.MonkeyPatch, medians: list[float], *words: object) -> tuple[object, list[int]]:
    """The exit status of the benchmark, and the runs that were made; nothing is tuned or timed."""
    made = list[int]()

    def measured(settings: Settings, run: int, loaded: bool, folder: Path) -> Row:
        made.append(run)
        return row(run, medians[run], loaded)

    monkeypatch.setattr(tuning_runs, "measured", measured)
    monkeypatch.setattr(tuning_runs, "compiled", lambda settings, database, bundle: bundle)
    monkeypatch.setattr(sys, "argv", ["tuning_runs.py", "--runs", str(len(medians)), "--loaded", "1", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        tuning_runs.main()
    return end.value.code, made


def test_a_slower_network_is_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(monkeypatch, [1.0, 0.99, 1.2]) == (0, [0, 1, 2])
    assert bench(monkeypatch, [1.0, 0.989, 1.2])[0] == 1
    assert bench(monkeypatch, [1.0, float("nan")])[0] == 1
    assert "least 0.990" in capsys.readouterr().out


def bundle(folder: Path, code: bytes) -> Path:
    """What of a bundle is compared."""
    folder.mkdir()
    (folder / "lib.so").write_bytes(code)
    (folder / "weights.bin").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize(
    ("busy", "asked", "disturbed"), [([0.0], 1, False), ([1.0, 0.0], 2, False), ([1.0] * 9, 3, True)]
)
def test_disturbed_timing_is_done_again(
    busy: list[float], asked: int, disturbed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, after = bundle(tmp_path / "before", b"1"), bundle(tmp_path / "after", b"2")
    made: list[Duel] = []

    def duel(before: Path, after: Path, threads: int) -> Duel:
        made.append(Duel(((1.0,),), ((1.0,),), busy[len(made)]))
        return made[-1]

    monkeypatch.setattr(tuning_runs, "duel_of_bundles", duel)
    found = tuning_runs.timed(before, after, 1)
    assert found is not None and found.disturbed is disturbed and len(made) == asked
    assert tuning_runs.timed(before, before, 1) is None


def test_goes_on_where_it_stood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    assert bench(monkeypatch, [1.0, 1.1], "--json", file, "--threads", 1) == (0, [0, 1])
    assert bench(monkeypatch, [0.5, 0.5, 1.2], "--json", file, "--threads", 1) == (0, [2])
    assert [json.loads(line)["median"] for line in file.read_text().splitlines()] == [1.0, 1.1, 1.2]
    other = Settings(None, "0", 2, 2.5)
    with pytest.raises(SystemExit, match="runs of other settings"):
        known(file, other)
    assert known(None, other) == {}
