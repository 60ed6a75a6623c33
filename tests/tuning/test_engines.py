"""MetaSchedule as an engine: what it proposes is measured, checked and recorded like candidates of effgen's own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiling import builder, conv, random_weights, run_compiled, scheduled_module

from effgen.errors import TuneError
from effgen.graph import Graph
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target
from effgen.measure.pipe import PipeClosedError, PipeTimeoutError
from effgen.measure.routes import RouteOptions
from effgen.network import NetworkRequest
from effgen.network.file_network import OnnxRequest
from effgen.records.database import RecordFile
from effgen.records.record import Record
from effgen.report.tune import notes_from_tune, table_from_tune, warnings_from_tune
from effgen.schedules import space_of
from effgen.tuning.engines import metaschedule as module
from effgen.tuning.engines.metaschedule import MetaSchedule, Proposed, TraceSearch
from effgen.tuning.request import TuneRequest, check_tune_request
from effgen.tuning.session import tune_network
from effgen.tuning.tuner import Limits

MACHINE = replace(load_target("cpu"), cores=1)
POINTWISE = Conv2d(1, 4, 4, 16, 16, activation="silu")


def operators() -> Graph:
    """A pointwise convolution, and operators that no rule knows."""
    b = builder(channels=16, size=4)
    x = conv(b, "x", 16, "c")
    return b.finish(b.add("Transpose", [b.add("Exp", [x], "e")], "t", perm=(0, 3, 1, 2)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    from effgen.graph.onnx.write import onnx_from_graph, save_onnx

    graph = operators()
    return save_onnx(onnx_from_graph(graph, random_weights(graph), {}), tmp_path / "small.onnx")[0]


def traced(path: Path) -> list[Record]:
    return [record for record in RecordFile(path).load().records if "metaschedule" in record.decisions]


def test_tunes_operators_and_kernels_and_compile_uses_what_it_found(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    database = tmp_path / "effgen" / "records.jsonl"
    request = TuneRequest(OnnxRequest(file), threads=1, engine="metaschedule", limits=Limits(trials=24))
    report = tune_network(request)
    assert report.engine.name == "metaschedule" and not report.engine.failures
    assert report.engine.ranked_by in ("xgboost", "random") and report.trials <= 24
    assert "searched by metaschedule" in notes_from_tune(report) and table_from_tune(report).row_count
    found = traced(database)
    # Whatever was measured was right: every candidate is compared with float64.
    assert found and {record.status for record in found} == {"ok"}
    assert any("exp" in record.kernel for record in found)
    graph, image = operators(), np.random.default_rng().standard_normal((1, 16, 4, 4), dtype=np.float32)
    weights = random_weights(graph)
    expected = run_compiled(graph, weights, image, tmp_path)
    for record in found:  # as if they had won
        threads = load_target("cpu").threads
        RecordFile(database).append(replace(record, cores=threads, kept=True, seconds=1e-9))
    kernels = scheduled_module(graph, weights).kernels
    chosen = {kernel.family: kernel.source for kernel in kernels if "metaschedule" in kernel.decisions}
    assert chosen == {"operator": "record:database", "conv2d": "record:database"}
    computed = run_compiled(graph, weights, image, tmp_path)
    assert np.linalg.norm(computed - expected) <= 1e-5 * np.linalg.norm(expected)


def test_offline_is_refused(tmp_path: Path) -> None:
    request = TuneRequest(NetworkRequest(), engine="metaschedule", route=RouteOptions(offline_out=tmp_path / "folder"))
    with pytest.raises(TuneError, match=r"--engine metaschedule: learns from each candidate .* give --measure local"):
        check_tune_request(request)


# The search, beside a fake process.


class FakeEngine:
    """Proposes `generations` in turn, and remembers what it was told."""

    def __init__(self, *generations: list[dict[str, int]]) -> None:
        self.generations, self.told = list(generations), list[Any]()

    def propose(self, workload: Workload, measured: Any) -> list[dict[str, int]]:
        self.told.append(list(measured))
        return self.generations.pop(0) if self.generations else []


def trace(number: int) -> dict[str, int]:
    return {"metaschedule": 1, "sketch": number}


def record_of(decisions: dict[str, int], seconds: float | None, kept: bool = False) -> Record:
    status = "crashed" if seconds is None else "ok"
    return Record(POINTWISE.name, "pointwise", decisions, status, 1, "x", 8, seconds, kept)  # type: ignore[arg-type]


def search_of(engine: FakeEngine) -> TraceSearch:
    space = space_of(POINTWISE, MACHINE)
    assert space is not None
    return TraceSearch(POINTWISE, 1, space, 0, engine)  # type: ignore[arg-type]


def test_what_is_compiled_today_comes_first_and_generations_learn() -> None:
    engine = FakeEngine([trace(0), trace(1)], [trace(1), trace(2)])
    search = search_of(engine)
    asked = []
    while (found := search.propose_free(lambda decisions: True)) is not None:
        asked.append(found)
        search.learn(record_of(found, None if found == trace(1) else 1e-5, kept=len(asked) == 1))
    assert asked == [dict(search.space.default), trace(0), trace(1), trace(2)]
    assert engine.told == [[], [(trace(0), 1e-5), (trace(1), None)], [(trace(2), 1e-5)]]
    assert search.exhausted and search.expected_gain_s == 0


def test_a_run_goes_on_from_what_another_recorded() -> None:
    engine = FakeEngine([trace(0), trace(3)])
    search = search_of(engine)
    search.learn(record_of(dict(search.space.default), 1e-5, kept=True), fresh=False)
    search.learn(record_of(trace(0), 2e-5), fresh=False)
    assert search.propose_free(lambda decisions: True) == trace(3)
    assert engine.told == [[(trace(0), 2e-5)]]


@pytest.mark.parametrize(
    "error, said", [(PipeTimeoutError(), "no candidate within 7 s"), (PipeClosedError(), "killed by SIGSEGV")]
)
def test_a_process_that_hangs_or_crashes_ends_one_search(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Process:
        def __init__(self, *_: Any) -> None:
            started.append(self)

        def ask(self, request: Any, limit_s: float) -> Any:
            if isinstance(request, module.Begin):
                return module.Begun("random")
            if request.workload == POINTWISE:
                raise error
            return Proposed([trace(5)])

        def how_it_died(self) -> str:
            return "killed by SIGSEGV"

        def close(self) -> None:
            pass

    monkeypatch.setattr(module, "AnsweringProcess", Process)
    with MetaSchedule(MACHINE, 0, 7.0) as engine:
        assert not engine.propose(POINTWISE, [])
        assert engine.failures == {POINTWISE.name: said}
        assert engine.propose(Conv2d(1, 4, 4, 8, 8), []) == [trace(5)]
        assert len(started) == 2
    assert json.dumps(engine.failures)


def test_gives_up_in_one_line(file: Path, tmp_path: Path) -> None:
    request = TuneRequest(OnnxRequest(file), threads=1, database=tmp_path / "db", limits=Limits(trials=1))
    report = tune_network(request)
    said = module_facts(report.engine, "no candidate within 7 s")
    lines = warnings_from_tune(replace(report, engine=said))
    assert "k: metaschedule gave up: no candidate within 7 s" in lines
    assert any("pip install 'effgen[metaschedule]'" in line for line in lines)


def module_facts(engine: Any, reason: str) -> Any:
    return replace(engine, name="metaschedule", ranked_by="random", failures={"k": reason})
