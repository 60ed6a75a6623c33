"""benchmarks/scaling.py: latency over multiply-adds, as a table and as a gate."""

import subprocess
import sys
from pathlib import Path

from reports import bench_report, facts, written

ROOT = Path(__file__).parents[2]


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
