"""The latency of a candidate: the sum of its kernels' from the machine's table, after those that are missing in it were
measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from effgen.graph import Graph
from effgen.studies.turns import Turns

if TYPE_CHECKING:
    from effgen.latency.predictor import Prediction


class KernelLatency:
    """Latencies on one target; `turns` keep the workers of this machine from disturbing what is measured."""

    def __init__(self, target: str, threads: int, database: Path | None, turns: Turns) -> None:
        self._target, self._threads, self._database, self._turns = target, threads, database, turns

    def __call__(self, graph: Graph) -> Prediction:
        """Raises an EffgenError where the target's kernels are neither known nor can be measured here."""
        from effgen.latency.predictor import open_predictor
        from effgen.latency.table import complete_table

        with self._turns.measuring():
            complete_table([graph], self._target, self._threads, self._database)
        return open_predictor(self._target, self._threads, self._database).predict(graph)
