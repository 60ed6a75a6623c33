"""How latency grows with the network, as the benchmarks' scripts draw it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from reports import HOST, bench_report, facts, layers_report, written

from effgen.results.growth import best_peer, growth, measured_peak, peak_share, result_of, worst_growth

ROOT = Path(__file__).parents[2]


def test_growth() -> None:
    reports = [
        bench_report(facts(0, macs=100), effgen=5.0),
        bench_report(facts(1, macs=200), effgen=9.0, x=10.0),
        bench_report(facts(2, macs=400), effgen=22.0, x=21.0),
    ]
    assert growth(reports) == [(1.0, 1.0), (2.0, 1.8), (4.0, 4.4)]
    assert worst_growth(growth(reports)) == pytest.approx(1.1)
    assert growth(reports, "x") == [] and growth(reports[1:], "x") == [(1.0, 1.0), (2.0, 2.1)]
    assert result_of(reports[0], "x") is None and best_peer(reports[0]) is None
    # 2 * 1e9 operations in 5 ms are 400 GFLOP/s.
    assert peak_share(bench_report(facts(macs=10**9), effgen=5.0), peak_gflops=800.0) == pytest.approx(0.5)


def test_peak_of_the_same_machine_and_threads() -> None:
    layers = [layers_report(), layers_report(machine=replace(HOST, cpu="Board"))]
    assert measured_peak(bench_report(), layers) == 200.0
    assert measured_peak(bench_report(threads=1), layers) is None
    assert measured_peak(bench_report(), layers[1:]) is None


def script(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_scaling_script(tmp_path: Path) -> None:
    small = written(bench_report(facts(0, macs=10**9), effgen=5.0, y=6.0), tmp_path / "a.json")
    large = written(bench_report(facts(1, macs=2 * 10**9), effgen=12.0), tmp_path / "b.json")
    done = script("scaling.py", large, small, "--peak", "800")
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert found[2] == "| 0 | 224 | 1.00 | 1.00 | 5.00 | 1.00 | 50% | y | 6.00 (1.20x) |"
    assert found[3] == "| 1 | 224 | 2.00 | 2.00 | 12.00 | 2.40 | 42% |  |  |"
    assert "at most 1.20 times as much" in done.stdout
    gate = script("scaling.py", small, large, "--max-growth", "1.1")
    assert gate.returncode == 3 and gate.stderr.count("\n") == 1 and "1.20 times" in gate.stderr
    written(bench_report(threads=1), tmp_path / "c.json")
    for words, message in (
        ((small, tmp_path / "c.json"), "a network is there twice"),
        ((large, tmp_path / "c.json"), "networks of one machine, target, batch size, type and thread count are needed"),
    ):
        refused = script("scaling.py", *words)
        assert refused.returncode == 1 and message in refused.stderr and refused.stderr.count("\n") == 1
