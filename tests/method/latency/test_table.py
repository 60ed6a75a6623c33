"""The table completed: what is measured, what is not, and that a kernel is in it before the next one begins."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

import pytest
from networks import tiny_graph, tiny_spec

from effgen.compiler.blocks import kernel_calls, kernel_counts
from effgen.compiler.calls import KernelCall
from effgen.errors import TuneError
from effgen.graph import Graph
from effgen.graph.passes.fold_batchnorm import folded_graph
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.workload import Workload
from effgen.machines.host import OtherWork
from effgen.measure.carried.timing import Timing
from effgen.measure.protocol import Outcome, Setup
from effgen.method.latency import calibration
from effgen.method.latency.calibration import calibrate, kernel_seconds
from effgen.method.latency.predictor import machine_of, open_predictor
from effgen.method.latency.table import TableProgress, complete_kernels, complete_table, missing_kernels
from effgen.method.latency.times import load_times, table_path
from effgen.network import Network
from effgen.network.spec import NetworkSpec
from effgen.records.database import RecordFile
from effgen.records.record import Record
from effgen.results.reports import DISTURBING_CPUS
from effgen.runtime.library import prepare_tvm
from effgen.runtime.profile import Profile, TimedCall

#: No schedule rule takes it.
GROUPED = Conv2d(1, 14, 14, 32, 64, (3, 3), (2, 2), (1, 1, 1, 1), groups=4, activation="relu")


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
    monkeypatch.setattr("effgen.measure.measurer.Measurer", FakeMeasurer)
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
    assert times.ignored == 0


def test_broken_kernels_are_tried_once(measurer: type[FakeMeasurer], graph: Graph, tmp_path: Path) -> None:
    """Neither this process nor another tries them again: that they failed is in the table."""
    database, names = tmp_path / "records.jsonl", names_of(graph)
    measurer.broken.add(names[1])
    complete_table([graph], "cpu", 1, database)
    measurer.asked.clear()
    assert missing_kernels([graph], "cpu", 1, database) == []
    assert complete_table([graph], "cpu", 1, database) == 0
    assert measurer.asked == []
    assert names[1] in [workload.name for workload in missing_kernels([graph], "cpu", 2, database)]


def test_missing_kernels_are_those_that_would_be_measured(
    measurer: type[FakeMeasurer], graph: Graph, tmp_path: Path
) -> None:
    database = tmp_path / "records.jsonl"
    missing = missing_kernels([graph, graph], "cpu", 1, database)
    assert [workload.name for workload in missing] == names_of(graph)
    complete_kernels(missing[2:], machine_of("cpu", 1), database)
    assert missing_kernels([graph], "cpu", 1, database) == missing[:2]
    with pytest.raises(TuneError, match="cannot be measured on this computer"):
        missing_kernels([graph], "rpi4", None, database)


def test_kernels_that_a_provider_has_no_space_for_can_be_timed() -> None:
    """Built by their rule, fed, and right."""
    prepare_tvm()
    from effgen.measure.case import TOLERANCE, KernelCase
    from effgen.measure.kernels import LocalBench

    bench = LocalBench(KernelCase(GROUPED, machine_of("cpu", 1), lambda workload, machine: None), lambda: None)
    assert bench.error_after(bench.kernel({})) <= TOLERANCE


def test_interrupted_table_keeps_what_it_has(measurer: type[FakeMeasurer], graph: Graph, tmp_path: Path) -> None:
    database = tmp_path / "records.jsonl"

    def interrupt(progress: TableProgress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete_table([graph], "cpu", 1, database, interrupt)
    assert complete_table([graph], "cpu", 1, database) == len(names_of(graph)) - 3


def test_recorded_kernels_are_known(measurer: type[FakeMeasurer], graph: Graph, tmp_path: Path) -> None:
    from effgen.records.choice import KernelChoices

    database, machine = tmp_path / "records.jsonl", machine_of("cpu", 1)
    workload = next(iter(kernel_counts(graph)))
    choice = KernelChoices(machine, database).choice(workload)
    key = (machine.cores, machine.processor, machine.lanes)
    rule = choice.source.removeprefix("rule:")
    RecordFile(database).append(Record(workload.name, rule, choice.decisions, "ok", *key, seconds=1e-5))
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


@pytest.mark.parametrize("repeats", [2, 3])
def test_seconds_of_a_profile_go_to_the_kernels(repeats: int) -> None:
    """A kernel that asks for weights ahead has another name in the library; one called several times has a median."""
    graph = tiny_graph(repeats=str(repeats))
    names = called_names(graph)
    seconds = [1e-6 * 2**index for index in range(len(names))]  # each call another time
    calls = [TimedCall(f"{name}_ahead12", call_s) for name, call_s in zip(names, seconds, strict=True)]
    of_kernel: dict[str, list[float]] = {name: [] for name in names}
    for name, call_s in zip(names, seconds, strict=True):
        of_kernel[name].append(call_s)
    assert {len(several) for several in of_kernel.values()} == {1, repeats}
    found = {w.name: call_s for w, call_s in kernel_seconds(graph, Profile(tuple(calls), 1.0)).items()}
    assert found == pytest.approx({name: median(several) for name, several in of_kernel.items()}, rel=1e-12)


def called_names(graph: Graph) -> list[str]:
    """The kernels in the order in which they run."""
    calls = kernel_calls(folded_graph(graph))
    return [call.workload.name for call in calls if isinstance(call, KernelCall)]


class Calibrations:
    """Calibrations of three small networks without compiling any: `profiled` are those that were run, `stop_at` the
    one that Ctrl-C interrupts; `other_cpus` of other work are seen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
        self.profiled: list[str] = []
        self.phases: list[str] = []
        self.stop_at, self.resolution, self._database = "", 32, database
        self.other_cpus: float | None = 0.0
        monkeypatch.setattr(calibration, "ALONE", 3)
        monkeypatch.setattr(calibration, "sample_networks", lambda *rest: iter(self.specs()))
        monkeypatch.setattr(calibration, "_profiled", self.profile)
        monkeypatch.setattr(calibration, "watch_other_work", self.watch)

    def specs(self) -> list[NetworkSpec]:
        return [tiny_spec(name=f'"small_{index}"', resolution=f"{self.resolution + 32 * index}") for index in range(3)]

    def profile(self, network: Network, *rest: object) -> tuple[float, Profile]:
        if network.spec.name == self.stop_at:
            raise KeyboardInterrupt
        self.profiled.append(network.spec.name)
        calls = tuple(TimedCall(name, 1e-6) for name in called_names(network.graph))
        return 1.1e-6 * len(calls), Profile(calls, 1.0)

    @contextmanager
    def watch(self) -> Iterator[OtherWork]:
        yield OtherWork(self.other_cpus)

    def run(self) -> int:
        self.profiled.clear()
        self.phases.clear()
        return calibrate("cpu", 1, self._database, self.phases.append)


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch, measurer: type[FakeMeasurer], tmp_path: Path) -> Calibrations:
    return Calibrations(monkeypatch, tmp_path / "records.jsonl")


def test_a_stopped_calibration_goes_on(calibrations: Calibrations, measurer: type[FakeMeasurer]) -> None:
    calibrations.stop_at = "small_1"
    with pytest.raises(KeyboardInterrupt):
        calibrations.run()
    assert calibrations.profiled == ["small_0"] and measurer.asked == []
    calibrations.stop_at = ""
    assert calibrations.run() > 0
    assert calibrations.profiled == ["small_1", "small_2"] and len(measurer.asked) == 3
    assert calibrations.run() == 0
    assert calibrations.profiled == calibrations.phases == []


def test_networks_of_another_standard_set_are_not_taken_for_this_one(calibrations: Calibrations) -> None:
    calibrations.run()
    calibrations.resolution = 64  # under the same names
    calibrations.run()
    assert calibrations.profiled == ["small_0", "small_1", "small_2"]


@pytest.mark.parametrize(("other_cpus", "warned"), [(2.5, True), (DISTURBING_CPUS, False), (None, False)], ids=str)
def test_calibrations_beside_other_work_say_so(
    calibrations: Calibrations, other_cpus: float | None, warned: bool, tmp_path: Path
) -> None:
    calibrations.other_cpus = other_cpus
    calibrations.run()
    warnings = [phase for phase in calibrations.phases if phase.startswith("calibrated beside")]
    assert len(warnings) == warned
    if warned:
        assert "beside 2.5 CPUs of other work" in warnings[0]
        assert f"remove {table_path(tmp_path / 'records.jsonl')} to calibrate again" in warnings[0]
    calibrations.run()  # which measures nothing, and says nothing
    assert calibrations.phases == []


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
    assert 1e-6 < prediction.seconds < float("inf")  # a busy machine takes as long as it likes
