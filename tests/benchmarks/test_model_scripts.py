"""The scripts that ask the rules: what calibrated costs change, and which cores are idle. Nothing is timed."""

import sys
from dataclasses import replace
from pathlib import Path

import calibrated
import idle_cores
import pytest

from effgen.errors import TargetError
from effgen.machines.machine import Cpu
from effgen.machines.target import load_target, this_cpu


def test_only_other_costs_decide_otherwise(tmp_path: Path) -> None:
    here = this_cpu(calibrated=False).with_threads(2)
    machines = {calibrated.INHERITED: here, calibrated.CALIBRATED: here}
    assert calibrated.differing("0", machines) == []
    file = tmp_path / "costs.toml"
    file.write_text("[costs]\nring_first = 9\nring_second = 9\nring_beyond = 90\noperand = 1.0\n")
    costs = calibrated.costs_here(here, file)
    assert (costs.ring_first, costs.launch) == (9, here.costs.launch)
    rows = calibrated.differing("0", machines | {calibrated.CALIBRATED: replace(here, costs=costs)})
    assert rows and all(len(row) == 5 and "->" in row[-1] for row in rows)
    # The target that it compiles for is this machine with these very costs.
    target = tmp_path / "this.toml"
    target.write_text(calibrated.target_text(costs))
    found = load_target(target)
    assert isinstance(found, Cpu) and found.costs == costs and found.mcpu == here.mcpu


def test_costs_that_nobody_measured_are_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(TargetError, match=r"not there; run effgen calibrate, or give --costs"):
        calibrated.costs_here(this_cpu(), None)


def test_idle_cores_of_a_network(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine = load_target("x86-64-v4")
    assert isinstance(machine, Cpu)
    layers = idle_cores.layers_of("0", machine.with_threads(4))
    assert 0 < idle_cores.idle_share(layers, 4) < 0.1
    assert idle_cores.idle_share(idle_cores.layers_of("0", machine.with_threads(1)), 1) == pytest.approx(0)
    worst = idle_cores.worst(layers, 4, 3)
    assert len(worst) == 3 and {row[0] for row in worst} <= {layer.name for layer in layers}
    monkeypatch.setattr(sys, "argv", ["idle_cores.py", "0", "--threads", "1,2", "--layers", "1"])
    idle_cores.main()
    out = capsys.readouterr().out
    assert "| 0 | 1 | 0.0% | 1.0 | 0% |" in out and "phi 0, 2 threads" in out
    monkeypatch.setattr(sys, "argv", ["idle_cores.py", "--target", "cuda-sm90"])
    with pytest.raises(SystemExit):
        idle_cores.main()
    assert "is a GPU" in capsys.readouterr().err
