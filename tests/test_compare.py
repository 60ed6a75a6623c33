"""The gate on latencies beside peers: what it compares, what it refuses, and that what is no number never passes."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from effgen.compare import (
    Comparison,
    Measured,
    best_peer,
    check_comparable,
    check_gate,
    growth,
    passes_gate,
    peak_share,
    read_comparison,
    speedup,
    worst_growth,
)
from effgen.errors import EffgenError, RegressionError

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def network(phi: str = "0", macs: int = 10**9, left_out: dict[str, str] | None = None, **medians_ms: float | None):
    return Measured(
        phi=phi,
        batch=1,
        threads=2,
        resolution=224,
        parameters=5,
        macs=macs,
        medians_ms=medians_ms,
        left_out=left_out or {},
    )


def test_best_peer_and_speedup() -> None:
    one = network(effgen=5.0, pytorch=20.0, openvino=6.0, onnxruntime=None)
    assert best_peer(one) == ("openvino", 6.0)
    assert best_peer(one, among=["pytorch"]) == ("pytorch", 20.0)
    assert speedup(one) == pytest.approx(1.2)
    assert best_peer(network(effgen=5.0)) is None
    assert math.isnan(speedup(network(effgen=5.0)))
    assert math.isnan(speedup(network(pytorch=5.0)))
    # 2 * 1e9 operations in 5 ms are 400 GFLOP/s.
    assert peak_share(one, "effgen", peak_gflops=800.0) == pytest.approx(0.5)
    assert math.isnan(peak_share(one, "onnxruntime", peak_gflops=800.0))


@pytest.mark.parametrize(
    ("ratio", "baseline", "passes"),
    [
        (0.8, 0.8, True),
        (0.84, 0.8, True),
        (0.85, 0.8, False),
        (0.1, 0.8, True),
        (math.nan, 0.8, False),
        (0.8, math.nan, False),
        (math.inf, math.inf, False),
        (0.8, math.inf, False),
    ],
)
def test_gate_of_numbers(ratio: float, baseline: float, passes: bool) -> None:
    assert passes_gate(ratio, baseline, 1.05) == passes
    assert not passes_gate(ratio, baseline, math.nan)
    assert not passes_gate(ratio, baseline, math.inf)


def test_gate_compares_ratios_and_not_milliseconds() -> None:
    before = network(effgen=5.0, openvino=6.0)
    twice_as_slow_a_machine = network(effgen=10.0, openvino=12.0)
    assert check_gate([twice_as_slow_a_machine], [before], 1.05) == [
        "phi=0 batch 1 threads 2: effgen / best peer 0.833, baseline 0.833"
    ]
    with pytest.raises(RegressionError, match=r"max-ratio 1.05 .*0.917, baseline 0.833") as caught:
        check_gate([network(effgen=5.5, openvino=6.0)], [before], 1.05)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


def test_peer_that_is_new_is_no_regression() -> None:
    before = network(effgen=5.0, openvino=6.0)
    assert check_gate([network(effgen=5.0, openvino=6.0, newcomer=1.0)], [before], 1.05)


def test_gate_refuses_what_it_cannot_compare() -> None:
    before = [network(effgen=5.0, openvino=6.0)]
    with pytest.raises(EffgenError, match=r"no phi=3 batch 1 threads 2 in it \(it has phi=0 batch 1 threads 2\)"):
        check_gate([network("3", effgen=5.0, openvino=6.0)], before, 1.05)
    broken = network(effgen=5.0, pytorch=9.0, left_out={"openvino": "not installed"})
    with pytest.raises(EffgenError, match=r"openvino \(not installed\)") as caught:
        check_gate([broken], before, 1.05)
    assert caught.value.exit_code == 1
    with pytest.raises(EffgenError, match="--peers: the baseline has openvino too"):
        check_comparable([("0", 1, 2)], ["pytorch"], before)
    check_comparable([("0", 1, 2)], ["pytorch", "openvino"], before)


def test_network_without_a_time_of_effgen_never_passes() -> None:
    before = network(effgen=5.0, openvino=6.0)
    with pytest.raises(RegressionError, match="nan"):
        check_gate([network(effgen=None, openvino=6.0)], [before], 1.05)
    with pytest.raises(RegressionError, match="baseline nan"):
        check_gate([network(effgen=5.0, openvino=6.0)], [network(effgen=5.0)], 1.05)


def test_file_and_back(tmp_path: Path) -> None:
    comparison = Comparison(machine={"cpu": "x"}, peak_gflops=200.0, networks=[network(effgen=5.0, openvino=None)])
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"effgen": "0.1.0", **comparison.model_dump()}))
    assert read_comparison(path, "--baseline") == comparison


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "format_version = None: expected 1"),
        ('{"format_version": 2}', "format_version = 2: expected 1"),
        ('{"format_version": 1, "machine": {}, "networks": []}', "peak_gflops: Field required"),
        ('{"format_version": 1, "machine": {}, "peak_gflops": NaN, "networks": []}', "peak_gflops: .*finite"),
        ('{"format_version": 1, "machine": {}, "peak_gflops": 0, "networks": []}', "peak_gflops: .*greater than 0"),
    ],
)
def test_file_of_something_else(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(EffgenError, match=rf"^--baseline .*results.json: {message}") as caught:
        read_comparison(path, "--baseline")
    assert "\n" not in str(caught.value)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(EffgenError, match="No such file"):
        read_comparison(tmp_path / "absent.json", "--baseline")


def test_growth() -> None:
    networks = [network(effgen=5.0, x=None), network("1", 2 * 10**9, effgen=9.0), network("2", 4 * 10**9, effgen=22.0)]
    assert growth(networks) == [(1.0, 1.0), (2.0, 1.8), (4.0, 4.4)]
    assert worst_growth(growth(networks)) == pytest.approx(1.1)
    assert growth(networks, "x") == []


def test_scaling_script(tmp_path: Path) -> None:
    files = []
    for name, networks in {"a": [network("1", 2 * 10**9, effgen=12.0)], "b": [network(effgen=5.0, y=6.0)]}.items():
        comparison = Comparison(machine={}, peak_gflops=800.0, networks=networks)
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(comparison.model_dump_json())
    done = script("scaling.py", *files)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[2] == "| 0 | 224 | 1.00 | 1.00 | 5.00 | 1.00 | 50% | y | 6.00 (1.20x) |"
    assert rows[3] == "| 1 | 224 | 2.00 | 2.00 | 12.00 | 2.40 | 42% |  |  |"
    assert "at most 1.20 times as much" in done.stdout
    gate = script("scaling.py", *files, "--max-growth", "1.1")
    assert gate.returncode == 3 and gate.stderr.count("\n") == 1 and "1.20 times" in gate.stderr
    twice = script("scaling.py", files[0], files[0])
    assert twice.returncode == 1 and "is there twice" in twice.stderr


def test_compare_script_refuses_before_it_compiles(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    one = network(effgen=5.0, openvino=6.0)
    baseline.write_text(Comparison(machine={}, peak_gflops=1.0, networks=[one]).model_dump_json())
    done = script("compare_peers.py", "--peers", "pytorch", "--threads", "2", "--baseline", baseline)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --peers: the baseline has openvino too; measure the same ones\n"
    unknown = script("compare_peers.py", "--peers", "pytorc")
    assert unknown.returncode == 1 and "did you mean pytorch" in unknown.stderr
