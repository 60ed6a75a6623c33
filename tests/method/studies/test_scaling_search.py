"""A scaling search from the inside: what a training depends on, who measures when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from baseline_searches import EpochJudge
from searches import write_search

from effgen.errors import StudyError
from effgen.method.studies.grid import GridPlan
from effgen.method.studies.judge import JudgeRequest
from effgen.method.studies.latencies import LatencyRequest, open_latencies
from effgen.method.studies.scaling_search import ScalingRequest, finish, open_search, train_all
from effgen.report.scaling import notes_from_scaling


@pytest.fixture(autouse=True)
def search_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small search's spec and trainer, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    write_search(tmp_path)


def request_in(folder: Path, **changed: Any) -> ScalingRequest:
    """A small search that times nothing, in a folder where `write_search` was."""
    request = ScalingRequest(
        spec=str(folder / "fine.toml"),
        judge=JudgeRequest(trainer=f"{folder / 'trainer.py'}:accuracy"),
        storage=f"journal://{folder}/log",
        study="mine",
        folder=folder,
        phi=1.0,
        grid=GridPlan(step=0.2),
        seeds=2,
        confirm_seeds=1,
        latency=None,
    )
    return replace(request, **changed)


def test_settings_say_what_a_training_depends_on(tmp_path: Path) -> None:
    with closing(open_search(request_in(tmp_path)).shared) as shared:
        facts = shared.study.user_attrs["facts"]
    assert facts["spec"]["stages"][0]["kernel"] == 3 and facts["trainer"]["file"] == "trainer.py"
    assert facts["candidates"][0] == "depth 2/1/1"


@dataclass
class CountedTurns:
    """As `Turns`: what was done in which."""

    log: list[str] = field(default_factory=list)

    @contextmanager
    def training(self) -> Iterator[Callable[[], None]]:
        self.log.append("training")
        yield lambda: self.log.append("epoch")

    @contextmanager
    def measuring(self) -> Iterator[None]:
        self.log.append("measuring")
        yield
        self.log.append("measured")


def test_trainings_leave_the_machine_to_those_who_measure(tmp_path: Path) -> None:
    turns = CountedTurns()
    search = open_search(request_in(tmp_path, seeds=1, confirm_seeds=0))
    with closing(search.shared):
        train_all(replace(search, judge=EpochJudge([], epochs=2), turns=turns))  # type: ignore[arg-type]
    assert turns.log == ["training", "epoch", "epoch"] * len(search.searched)


def test_latencies_are_measured_alone_and_once_for_each_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = CountedTurns()

    def measure_networks(networks: Mapping[str, Any], target: str, threads: int | None, **more: Any) -> dict[str, Any]:
        assert turns.log[-1] == "measuring"
        result = SimpleNamespace(results=[SimpleNamespace(median_ms=3.0)], threads=threads or 2)
        return dict.fromkeys(networks, SimpleNamespace(**vars(result), machine=SimpleNamespace(cpu="a CPU")))

    monkeypatch.setattr("effgen.method.latency.interleaved.measure_networks", measure_networks)
    monkeypatch.setattr("effgen.method.studies.latencies.usable_cpus", lambda: (0, 1))
    for threads, times in ((None, 1), (1, 2), (2, 2)):  # two is all that there are
        search = open_search(request_in(tmp_path, seeds=1, confirm_seeds=0, latency=LatencyRequest(threads=threads)))
        with closing(search.shared):
            train_all(search)
            report = finish(replace(search, turns=turns))  # type: ignore[arg-type]
        assert report.baseline.latency_ms == 3.0 and report.threads == (threads or 2)
        assert turns.log == ["measuring", "measured"] * times
        assert f"measured {report.measured}" in "".join(notes_from_scaling(report)) and report.measured.endswith("UTC")


def test_a_study_of_latencies_is_looked_at_before_anything_is_trained(tmp_path: Path) -> None:
    request = request_in(tmp_path, latency=LatencyRequest())
    open_latencies(request.storage, request.study, {"phi": 7}, LatencyRequest()).close()
    with pytest.raises(StudyError, match=r"study mine latency: cpu, threads \d+ in .*: phi is 7 there and 1\.0 here"):
        open_search(request)
