"""Instances at once: which CPUs each has, what is counted, whose answer is looked at, and what the report says."""

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from reports import FACTS, HOST, ORIGIN, written

from effgen.errors import BundleError, EffgenError, ResultsError
from effgen.judge import streams as streams_module
from effgen.judge.messages import Entered, Entry, Flow, Flowed, Refused, WarmUp
from effgen.judge.peers import peer_version
from effgen.judge.race import Contender, run_race
from effgen.judge.streams import Team, bench_streams, images_per_second
from effgen.machines.processor import default_threads
from effgen.measure.pipe import PipeClosedError
from effgen.report.streams import notes_from_streams, table_from_streams, warning_from_streams
from effgen.results.reports import Plan, StreamsReport, StreamsResult, read_report
from effgen.results.sources import read_sources

QUICK = Plan(rounds=3, min_time_s=0.06)

two_cores = pytest.mark.skipif(default_threads() < 2, reason="needs two cores")


def report(other_cpus: float | None = 0.0) -> StreamsReport:
    """Two streams, beside a queue that is half as fast."""
    ours = StreamsResult("effgen", "0.1.0", 2, 1, None, 200.0, 190.0, 210.0, 1.0, 0.0, 70 << 20)
    queue = StreamsResult("openvino throughput", "2026", 1, 2, 2, 100.0, 90.0, 110.0, 2.0, 1e-6, None)
    return StreamsReport(ORIGIN, FACTS, "cpu", 2, 1, ((0,), (1,)), Plan(), (ours, queue), (), HOST, other_cpus)


@two_cores
def test_two_streams_beside_peers(tiny_bundle: Path, tmp_path: Path) -> None:
    peers = [] if peer_version("openvino") is None else ["openvino"]
    phases: list[str] = []
    found = bench_streams(tiny_bundle, 2, peers, QUICK, phases.append)
    rows = {result.backend: result for result in found.results}
    queues = ["openvino throughput", "openvino streams"] if peers else []
    assert list(rows) == ["effgen", *peers, *queues] and found.left_out == ()
    assert (found.streams, found.threads) == (2, default_threads() // 2)
    first, second = map(set, found.cpus)
    assert not first & second and first | second <= set(found.machine.cpus)
    for name, row in rows.items():
        assert 0 < row.p25 <= row.median <= row.best
        assert row.ratio == pytest.approx(rows["effgen"].median / row.median)
        assert row.rel_l2 < 1e-4 and row.memory_bytes is not None and row.memory_bytes > 1e6
        whole = name in queues
        assert (row.processes, row.threads) == ((1, default_threads()) if whole else (2, found.threads))
        assert (row.streams is not None) == whole
    if queues:
        assert rows["openvino streams"].streams == 2
    assert phases[-1] == f"measure 3 rounds of {len(rows)} backends"
    assert read_report(written(found, tmp_path / "x.json")) == found


@pytest.mark.parametrize("count", [-1, 0, default_threads() + 1])
def test_streams_that_the_cores_do_not_allow(count: int, tmp_path: Path) -> None:
    with pytest.raises(EffgenError, match=rf"^--streams {count}: expected from 1 to {default_threads()}, the cores of"):
        bench_streams(tmp_path / "absent", count)


def test_peer_and_bundle_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(EffgenError, match="unknown peer"):
        bench_streams(tmp_path / "absent", 1, ["x"])
    with pytest.raises(BundleError):
        bench_streams(tmp_path / "absent", 1)


def test_process_is_held_to_its_cpus(tiny_bundle: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    with Contender(Entry("effgen", tiny_bundle, 1, (cpu,))) as one:
        assert isinstance(one.told, Entered) and os.sched_getaffinity(one.pid) == {cpu}


def test_images_per_second_are_those_of_all() -> None:
    assert images_per_second([Flowed(30, 0.5), Flowed(10, 1.0)], batch=4) == pytest.approx(4 * 70)


@dataclass
class Instance:
    """Stands for a `Contender`: what its backend answers by its place among its kind, and how fast it is."""

    entry: Entry
    answers: ClassVar[Mapping[str, list[float]]] = {"effgen": [1, 1], "onnxruntime": [1, 1]}
    closed: ClassVar[list[str]] = []

    def __post_init__(self) -> None:
        value = self.answers[self.entry.backend][self.entry.cpus[0]]
        self.told = Entered(np.full((1, 10), value, np.float32), 10 + self.entry.cpus[0])

    def __enter__(self) -> "Instance":
        return self

    def __exit__(self, *error: object) -> None:
        self.closed.append(self.entry.backend)

    def tell(self, request: WarmUp | Flow) -> None:
        self.request = request

    def hear(self) -> Any:
        if self.entry.backend == "onnxruntime" and self.entry.cpus == (1,) and isinstance(self.request, Flow):
            raise PipeClosedError
        return 0.01 if isinstance(self.request, WarmUp) else Flowed(10, 0.1 * (1 + self.entry.cpus[0]))

    def how_it_died(self) -> str:
        return "signal SIGSEGV"


@pytest.fixture
def instances(monkeypatch: pytest.MonkeyPatch) -> type[Instance]:
    monkeypatch.setattr(streams_module, "Contender", Instance)
    monkeypatch.setattr(streams_module, "_shares", lambda streams: [(0,), (1,)])
    monkeypatch.setattr(Instance, "closed", [])
    return Instance


def test_one_process_that_dies_takes_its_row_along(instances: type[Instance], tiny_bundle: Path) -> None:
    found = bench_streams(tiny_bundle, 2, ["onnxruntime"], QUICK)
    assert [(row.backend, row.median, row.memory_bytes) for row in found.results] == [
        ("effgen", pytest.approx(150), 21)
    ]
    assert [(each.backend, each.reason) for each in found.left_out] == [
        ("onnxruntime", "its process ended: signal SIGSEGV")
    ]
    assert sorted(instances.closed) == ["effgen"] * 2 + ["onnxruntime"] * 2


@pytest.mark.parametrize("answers", [[1, 2], [np.nan, 1]])
def test_one_wrong_answer_is_enough(
    answers: list[float], instances: type[Instance], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "answers", {"effgen": [1, 1], "onnxruntime": answers})
    found = bench_streams(tiny_bundle, 2, ["onnxruntime"], QUICK)
    assert [row.backend for row in found.results] == ["effgen"]
    assert found.left_out[0].reason.startswith("wrong answer: relative L2 ")


def test_own_answers_that_are_not_finite(
    instances: type[Instance], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instances, "answers", {"effgen": [1, np.nan]})
    with pytest.raises(BundleError, match="not finite"):
        bench_streams(tiny_bundle, 2, [], QUICK)


def test_processes_that_are_killed_in_the_race(tiny_bundle: Path) -> None:
    entry = Entry("effgen", tiny_bundle, 1)
    with Contender(entry) as first, Contender(entry) as second, Contender(entry) as other:
        assert not any(isinstance(each.told, Refused) for each in (first, second, other))
        os.kill(second.pid, signal.SIGKILL)
        ran = run_race({"pair": Team([first, second], 1), "one": Team([other], 1)}, QUICK)
    assert ran.lost == {"pair": "its process ended: signal SIGKILL"} and len(ran.samples["one"]) == 3


def test_table_and_notes() -> None:
    table = table_from_streams(report())
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert table.title == "efficientnet phi=0, batch 1, 2 streams of 1 thread, float32"
    assert cells["runs as"] == ["2 processes of 1 thread", "1 process of 2 threads, 2 streams"]
    assert cells["vs effgen"] == ["1.00x", "2.00x"] and cells["at p25"] == ["1.00x", "2.11x"]
    assert "CPUs of the streams: 0; 1" in notes_from_streams(report())[-1] and warning_from_streams(report()) == ""
    disturbed = report(other_cpus=0.5)
    assert "0.5 CPUs busy" in warning_from_streams(disturbed)
    assert list(table_from_streams(disturbed).columns[5].cells) == ["1.00x?", "2.00x?"]


def test_compare_does_not_take_it(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="is of bench --streams, which compare does not show"):
        read_sources([written(report(), tmp_path / "x.json")], "FILES")


def test_command(run: Any, tiny_bundle: Path) -> None:
    words = ("bench", tiny_bundle, "--rounds", "2", "--min-time", "0.02", "-q")
    code, out, _ = run(*words, "--streams", "1", "--json", "-")
    assert code == 0 and json.loads(out)["kind"] == "streams"
    code, _, error = run(*words, "--streams", "0")
    assert code == 1 and error.startswith("error: --streams 0: expected from 1 to") and error.count("\n") == 1
    for other in (("--layers",), ("--threads", "1"), ("--skip", "pytorch"), ("--plot", "x.png"), ("--rpc-key", "x")):
        assert run(*words, "--streams", "1", *other)[0] == 2
