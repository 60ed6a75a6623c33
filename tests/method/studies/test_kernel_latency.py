"""Latencies of candidates: what is known is not measured again, what is missing is, alone on the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from networks import tiny_graph

from effgen.method.latency import calibration, predictor, table
from effgen.method.latency.predictor import LatencyPrediction
from effgen.method.studies.kernel_latency import KernelLatency
from effgen.method.studies.turns import Turns


class Machine:
    """A table that lacks `missing` kernels; they are measured when that is asked for, `broken` ones never."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, missing: int, broken: int = 0) -> None:
        self.missing, self.broken, self.log = missing, broken, []  # type: ignore[var-annotated]
        monkeypatch.setattr(predictor, "open_predictor", self.opened)
        monkeypatch.setattr(table, "missing_kernels", lambda *rest: [object()] * self.missing)
        monkeypatch.setattr(table, "complete_table", self.completed)
        monkeypatch.setattr(calibration, "calibrate", lambda *rest: self.log.append("calibrated"))

    def opened(self, *rest: Any) -> Machine:
        return self

    def predict(self, graph: object) -> LatencyPrediction:
        self.log.append("predicted")
        return LatencyPrediction(1e-3, 0.5 if self.missing or self.broken else 1.0, 10)

    def completed(self, graphs: object, *rest: Any) -> int:
        self.log.append("measured")
        measured, self.missing = self.missing, 0
        return measured


def test_missing_kernels_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, missing=3)
    latencies = KernelLatency("cpu", 2, None, Turns(tmp_path))
    latencies.prepare()
    assert latencies(tiny_graph()).measured_share == 1.0
    assert latencies(tiny_graph()).measured_share == 1.0
    assert machine.log == ["calibrated", "predicted", "measured", "predicted", "predicted"]


def test_nobody_waits_for_kernels_that_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are estimated, and no turn is taken: trainings go on meanwhile."""
    machine = Machine(monkeypatch, missing=0, broken=3)
    turns = Turns(tmp_path)
    monkeypatch.setattr(turns, "measuring", lambda: pytest.fail("it took a turn"))
    assert KernelLatency("cpu", 2, None, turns)(tiny_graph()).measured_share == 0.5
    assert machine.log == ["predicted"]


def test_kernels_that_turn_out_broken_are_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, missing=3)
    monkeypatch.setattr(table, "complete_table", lambda *rest: 0)
    assert KernelLatency("cpu", 2, None, Turns(tmp_path))(tiny_graph()).measured_share == 0.5
    assert machine.log == ["predicted"]


@pytest.mark.parametrize("target", ["rpi4", "cuda-sm90"])
def test_nothing_is_measured_for_a_machine_elsewhere(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, missing=3)
    latencies = KernelLatency(target, None, None, Turns(tmp_path))
    latencies.prepare()
    assert latencies(tiny_graph()).seconds == 1e-3
    assert machine.log == ["predicted"]


def test_what_is_measured_is_measured_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, missing=1)
    turns = Turns(tmp_path)

    class Watched(Turns):
        def measuring(self) -> Any:
            machine.log.append("alone")
            return turns.measuring()

    KernelLatency("cpu", None, None, Watched(tmp_path))(tiny_graph())
    assert machine.log == ["predicted", "alone", "measured", "predicted"]
