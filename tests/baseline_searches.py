"""What tests of baseline searches share: latencies without a machine, a judge without a network, a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from networks import TINY

from effgen.graph import Graph
from effgen.method.latency.predictor import LatencyPrediction
from effgen.method.studies import baseline_search, confirmation
from effgen.method.studies.baseline_search import BaselinePlan, BaselineRequest, BaselineSearch, open_baseline_search
from effgen.method.studies.front import (
    BaselineReport,
    FrontTiming,
    Member,
    State,
    TriedNetwork,
    confirmed_front,
    front_of,
    reward,
)
from effgen.method.studies.judge import JudgeRequest
from effgen.method.studies.samples import sample_of
from effgen.method.studies.workers import Policy
from effgen.network import Network
from effgen.network.spec import NetworkSpec, parse_spec

#: Better with layers and kernels, up to a point; a seed makes a little difference.
TRAINER = """
def accuracy(spec, seed):
    size = sum(stage.repeats * stage.kernel * (1 + stage.expand_ratio / 6) for stage in spec.stages)
    return size / (size + 5) + 0.002 * (seed % 3)
"""


@dataclass
class TableLatencies:
    """A nanosecond for each multiply-add; counts what it is asked."""

    asked: int = 0
    prepared: int = 0

    def prepare(self, on_phase: Callable[[str], None] = lambda phase: None) -> None:
        self.prepared += 1

    def __call__(self, graph: Graph) -> LatencyPrediction:
        self.asked += 1
        return LatencyPrediction(graph.macs * 1e-9, 0.75, len(graph.nodes))


def free_latencies(patch: Callable[[object, str, object], None]) -> None:
    """Searches need no compiler: latencies are of multiply-adds, timings 10% above. `patch` sets an attribute."""

    def timed(networks: Mapping[str, Network], *rest: Any, **more: Any) -> dict[str, Any]:
        def result(network: Network) -> SimpleNamespace:
            ms = network.graph.macs * 1.1e-6
            return SimpleNamespace(results=[SimpleNamespace(median_ms=ms, p10_ms=ms * 0.99, p90_ms=ms * 1.01)])

        return {name: result(network) for name, network in networks.items()}

    patch(baseline_search, "KernelLatency", lambda *rest: TableLatencies())
    patch(confirmation, "measure_networks", timed)


@dataclass(frozen=True)
class EpochJudge:
    """As a `Judge` with pictures: reports `epochs` epochs, and ends where it is told to.

    A network learns `curves[trainings so far]`, after those 0.5 throughout.
    """

    curves: list[list[float]]
    epochs: int = 4
    trained: list[str] = field(default_factory=list)
    program: None = None

    def threads_of(self, spec: NetworkSpec) -> int:
        return 1

    def accuracy(self, spec: NetworkSpec, seed: int, key: str, on_epoch: Any) -> float:
        from effgen.method.training.trainer import (
            EpochResult,  # PyTorch takes seconds, which workers without it need not wait
        )

        number = len(self.trained)
        self.trained.append(key)
        curve = self.curves[number] if number < len(self.curves) else [0.5] * self.epochs
        for epoch, accuracy in enumerate(curve, start=1):
            if not on_epoch(EpochResult(epoch, 1.0, accuracy)):
                break
        return accuracy

    def forget(self, key: str) -> None:
        """As `Judge.forget`: there is nothing left."""


def request_in(folder: Path, **changed: Any) -> BaselineRequest:
    """A small search in `folder`, with a trainer of the user's; keys of the plan or of the request."""
    for name, text in (("tiny.toml", TINY), ("trainer.py", TRAINER)):
        if not (folder / name).exists():
            (folder / name).write_text(text)
    plan = {key: changed.pop(key) for key in list(changed) if key in BaselinePlan.__dataclass_fields__}
    request = BaselineRequest(
        spec=str(folder / "tiny.toml"),
        judge=JudgeRequest(trainer=f"{folder / 'trainer.py'}:accuracy"),
        storage=f"journal://{folder}/trials.log",
        study="tiny",
        folder=folder / "work",
        plan=BaselinePlan(**{"trials": 8, "population": 4, "confirm_seeds": 2, **plan}),
        policy=Policy(heartbeat_s=5.0),
    )
    return replace(request, **changed)


def search_in(folder: Path, judge: EpochJudge | None = None, **changed: Any) -> BaselineSearch:
    """`request_in` opened, with `TableLatencies`."""
    search = open_baseline_search(request_in(folder, **changed), TableLatencies())
    return search if judge is None else replace(search, judge=judge)  # type: ignore[arg-type]


def tried(trial: int, accuracy: float | None, milliseconds: float, name: str = "", **changed: Any) -> TriedNetwork:
    """A network that was trained to the end, or failed where it has no accuracy."""
    spec = parse_spec(TINY, "tiny.toml").model_copy(update={"name": name or f"tiny_t{trial}"})
    seconds = milliseconds / 1e3
    value = None if accuracy is None else reward(accuracy, seconds, 1e-3)
    state: State = "failed" if accuracy is None else "done"
    made = TriedNetwork(trial, state, spec, 10**6, 10**4, seconds, 1.0, accuracy, value, epochs=4)
    return replace(made, **changed)


def member(candidate: TriedNetwork, *accuracies: float, spread: float = 0.1, **changed: Any) -> Member:
    """Confirmed, and timed a little faster than predicted."""
    median = (candidate.latency_s or 0) * 0.9e3
    timing = FrontTiming(median, median * (1 - spread), median * (1 + spread))
    return replace(Member(candidate, sample_of(accuracies), timing), **changed)


def full_report(evil: str = "") -> BaselineReport:
    """A bit of everything: one that dominates, a pruned and a failed one; `evil` where users' text stands."""
    start = tried(0, 0.9, 1.0, name="tiny")
    candidates = (
        start,
        tried(1, 0.92, 0.6),
        tried(2, 0.95, 1.5),
        tried(3, 0.4, 0.7, state="pruned", epochs=2),
        tried(4, None, 0.9, error=f"diverged {evil}"),
    )
    confirmed = {0: (0.90, 0.91, 0.905, 0.905), 1: (0.93, 0.935, 0.932, 0.933), 2: (0.95, 0.94, 0.945, 0.945)}
    networks = [start, *front_of(candidates)]
    members = [member(network, *confirmed[network.trial]) for network in networks]
    return BaselineReport(
        study=f"study tiny in sqlite:///{evil}",
        data=f"digits {evil}",
        target="cpu",
        device=f"CPU {evil}",
        threads=2,
        latency_target_s=1e-3,
        exponent=-0.07,
        sampler="tpe",
        pruner="median",
        repeated=1,
        points=1000,
        pictures=5000,
        confirm_seeds=4,
        candidates=candidates,
        start=members[0],
        members=tuple(members[1:]),
        front=tuple(confirmed_front(members)),
        date="2026-01-02",
    )
