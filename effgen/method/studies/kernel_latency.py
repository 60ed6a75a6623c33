"""The latency of a candidate: the sum of its kernels' in the machine's table, after what it lacks was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from effgen.graph import Graph
from effgen.machines.abilities import times_kernels_here
from effgen.machines.target import load_target
from effgen.method.studies.turns import Turns
from effgen.words import OnPhase

if TYPE_CHECKING:
    from effgen.method.latency.predictor import LatencyPrediction


class LatencySource(Protocol):
    """What a search asks for the latency of its candidates."""

    def prepare(self, on_phase: OnPhase = ...) -> None:
        """What is to be done once, before the first one. Raises an EffgenError where latencies cannot be had."""

    def __call__(self, graph: Graph) -> LatencyPrediction:
        """The latency of a network."""


class KernelLatency:
    """Latencies on one target with `threads` (None: all that it has).

    Where the target is this machine, it is calibrated first and kernels are measured; elsewhere what its table and
    tuning records hold must do. `turns` keep this machine's other workers from disturbing what is measured.
    """

    def __init__(self, target: str, threads: int | None, database: Path | None, turns: Turns) -> None:
        self._target, self._threads, self._database, self._turns = target, threads, database, turns
        self._measures_here = times_kernels_here(load_target(target))

    def prepare(self, on_phase: OnPhase = lambda phase: None) -> None:
        """Calibrate the machine, unless that was done. Raises TuneError where too little is known of one elsewhere."""
        from effgen.method.latency.calibration import calibrate
        from effgen.method.latency.predictor import open_predictor

        if self._measures_here:
            with self._turns.measuring():
                calibrate(self._target, self._threads, self._database, on_phase)
        open_predictor(self._target, self._threads, self._database)

    def __call__(self, graph: Graph) -> LatencyPrediction:
        """Raises an EffgenError as `prepare` does, or where the table cannot be written."""
        known = self._predict(graph)
        if known.measured_share == 1 or not self._measures_here or not self._complete(graph):
            return known
        return self._predict(graph)

    def _complete(self, graph: Graph) -> int:
        """Measure what the table lacks; returns how many kernels that were. Nobody waits where nothing is to be done:
        kernels that fail stay unmeasured."""
        from effgen.method.latency.table import complete_table, missing_kernels

        if not missing_kernels([graph], self._target, self._threads, self._database):
            return 0
        with self._turns.measuring():
            return complete_table([graph], self._target, self._threads, self._database)

    def _predict(self, graph: Graph) -> LatencyPrediction:
        """From what is in the table and the records now."""
        from effgen.method.latency.predictor import open_predictor

        return open_predictor(self._target, self._threads, self._database).predict(graph)
