"""The table completed: what is measured, what is not, and that a kernel is in it before the next one begins."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from networks import tiny_graph

from effgen.block_fusion import kernel_counts
from effgen.errors import TuneError
from effgen.graph import Graph
from effgen.kernels.workload import Workload
from effgen.latency import calibration
from effgen.latency.calibration import calibrate, kernel_seconds
from effgen.latency.predictor import machine_of, open_predictor
from effgen.latency.table import TableProgress, complete_table
from effgen.latency.times import load_times, table_path
from effgen.measure import pool
from effgen.measure.protocol import Outcome, Setup
from effgen.measure.timing import Timing
from effgen.records import Record, RecordFile
from effgen.runtime.profile import Profile, TimedCall


class FakeMeasurer:
    """Measures nothing: each kernel takes a microsecond for every thousand multiply-adds; `broken` ones crash."""

    asked: list[str] = []
    broken: set[str] = set()

    def __init__(self, setup: Setup) -> None:
        self.machine = setup.machine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def measure(self, workload: Workload, decisions: Mapping[str, int]) -> Outcome:
        self.asked.append(workload.name)
        if workload.name in self.broken:
            return Outcome("crashed", "signal SIGSEGV")
        return Outcome("ok", timing=Timing(1e-6 + workload.macs * 1e-9, None, 1.0, 1.0, 10), device="toy")


@pytest.fixture
def measurer(monkeypatch: pytest.MonkeyPatch) -> type[FakeMeasurer]:
    monkeypatch.setattr(pool, "Measurer", FakeMeasurer)
    monkeypatch.setattr(FakeMeasurer, "asked", [])
    monkeypatch.setattr(FakeMeasurer, "broken", set())
    return FakeMeasurer


@pytest.fixture
def graph() -> Graph:
    return tiny_graph()


def names_of(graph: Graph) -> list[str]:
    return [workload.name for workload in kernel_counts(graph)]


def test_only_what_is_missing_is_measured(measurer: type[FakeMeasurer], graph: Graph, tmp_path: Path) -> None:
    database, seen = tmp_path / "records.jsonl", list[TableProgress]()
    assert complete_table([graph, graph], "cpu", 1, database, seen.append) == len(names_of(graph))
    assert measurer.asked == names_of(graph)
    assert [progress.done for progress in seen] == [*range(1, len(seen) + 1)]
    assert {(progress.total, progress.status) for progress in seen} == {(len(seen), "ok")}
    assert complete_table([graph], "cpu", 1, database) == 0
    assert complete_table([graph], "cpu", 2, database) == len(names_of(graph))  # of another number of threads


def test_broken_kernels_are_left_to_the_estimate(measurer: type[FakeMeasurer], graph: Graph, tmp_path: Path) -> None:
    database, names = tmp_path / "records.jsonl", names_of(graph)
    measurer.broken.add(names[1])
    assert complete_table([graph], "cpu", 1, database) == len(names) - 1
    times = load_times(machine_of("cpu", 1), database)
    assert {time.kernel for time in times.kernels("alone")} == {*names} - {names[1]}


def test_interrupted_table_keeps_what_it_has(measurer: type[FakeMeasurer], graph: Graph, tmp_path: Path) -> None:
    database = tmp_path / "records.jsonl"

    def interrupt(progress: TableProgress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete_table([graph], "cpu", 1, database, interrupt)
    assert complete_table([graph], "cpu", 1, database) == len(names_of(graph)) - 3


def test_recorded_kernels_are_known(measurer: type[FakeMeasurer], graph: Graph, tmp_path: Path) -> None:
    from effgen.kernel_choice import KernelChoices

    database, machine = tmp_path / "records.jsonl", machine_of("cpu", 1)
    workload = next(iter(kernel_counts(graph)))
    choice = KernelChoices(machine, database).choice(workload)
    key = (machine.cores, machine.processor, machine.lanes)
    rule = choice.source.removeprefix("rule:")
    RecordFile(database).append(Record(workload.name, rule, choice.decisions, "ok", *key, seconds=1e-5, kept=True))
    assert complete_table([graph], "cpu", 1, database) == len(names_of(graph)) - 1
    assert workload.name not in measurer.asked


@pytest.mark.parametrize("target", ["rpi4", "cuda-sm90"])
@pytest.mark.parametrize("measure", [complete_table, calibrate], ids=["complete_table", "calibrate"])
def test_other_machines_are_refused(target: str, measure: object, tmp_path: Path) -> None:
    database = tmp_path / "records.jsonl"
    with pytest.raises(TuneError, match=f"--target {target}: its kernels cannot be measured on this computer"):
        if measure is calibrate:
            calibrate(target, database=database)
        else:
            complete_table([], target, database=database)
    assert not table_path(database).exists()


@pytest.mark.parametrize("threads", [0, 1000])
def test_threads_that_there_are_not(threads: int, tmp_path: Path) -> None:
    with pytest.raises(TuneError, match=f"--threads {threads}: expected from 1 to"):
        complete_table([], "cpu", threads, tmp_path / "records.jsonl")


def test_seconds_of_a_profile_go_to_the_kernels(graph: Graph) -> None:
    """A kernel that asks for weights ahead has another name in the library; one that is called twice has a median."""
    counts = kernel_counts(graph)
    calls = [(workload, index) for index, workload in enumerate(counts) for _ in range(counts[workload])]
    found = kernel_seconds(graph, Profile(tuple(TimedCall(f"{w.name}_ahead12", 1e-6 * i) for w, i in calls), 1.0))
    assert {workload.name for workload in found} == {*names_of(graph)}
    assert sum(found.values()) > 0


@pytest.mark.slow
def test_calibrated_machine_predicts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For real: a small standard set, a completed table, a prediction of the right size; nothing is measured twice."""
    monkeypatch.setattr(calibration, "NETWORKS", 1)
    monkeypatch.setattr(calibration, "ALONE", 3)
    database, phases = tmp_path / "records.jsonl", list[str]()
    assert calibrate("cpu", None, database, phases.append) > 12
    assert phases[:2] == ["calibrate cpu: network 1 of 1", "calibrate cpu: 3 kernels by themselves"]
    assert calibrate("cpu", None, database) == 0
    graph = tiny_graph()
    assert complete_table([graph], "cpu", None, database) > 0
    prediction = open_predictor("cpu", None, database).predict(graph)
    assert prediction.measured_share == 1.0
    assert 1e-6 < prediction.seconds < 0.1
