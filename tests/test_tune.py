"""Tuning: what is measured next, what is kept, and runs that are stopped, killed and taken up again."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import toy_spaces
from toy_spaces import FAST, SLOW, WORKLOAD

from effgen import tuner as tuner_module
from effgen.errors import EffgenError, TuneError
from effgen.kernels.workload import ChannelScale, GlobalAveragePool, Workload
from effgen.measure.protocol import Outcome
from effgen.measure.timing import THOROUGH_ROUNDS, Timing
from effgen.network import NetworkRequest
from effgen.records import Record, RecordFile, Source, best_records
from effgen.report_tune import json_from_tune, note_from_progress, notes_from_tune, table_from_tune, warnings_from_tune
from effgen.schedules.space import Space
from effgen.search import KernelSearch
from effgen.target import load_target
from effgen.tune import TuneRequest, calls_of_network, check_tune_request, searches_of
from effgen.tuned import TunedKernel, TuneReport
from effgen.tuner import Limits, Progress, Tuner

MACHINE = replace(load_target("x86-64-v3"), cores=1)
NO_LIMITS = Limits()
LARGE, SMALL = ChannelScale(1, 64, 64, 16), ChannelScale(1, 2, 2, 16)

Decisions = Mapping[str, int]
Time = Callable[[Workload, Decisions], float]


def space(default: int = 0, size: int = 6) -> Space:
    def build(decisions: Decisions) -> None:
        raise AssertionError("the tuner itself builds nothing")

    axes = {"x": tuple(range(size)), "y": tuple(range(size))}
    return Space("toy", axes, {"x": default, "y": default}, build, lambda d: d["x"] + d["y"] < 2 * size - 2)


def bowl(workload: Workload, decisions: Decisions) -> float:
    """Fastest at (3, 2); the large workload a hundred times slower than the small one."""
    return (1e-3 if workload == LARGE else 1e-5) * (1 + 0.1 * ((decisions["x"] - 3) ** 2 + (decisions["y"] - 2) ** 2))


@dataclass
class FakeMeasurer:
    """Times by formula; `bad` candidates fail, `raises` is raised instead of the call of that number."""

    time: Time = bowl
    bad: Mapping[tuple[int, int], Outcome] = field(default_factory=dict)
    raises: Mapping[int, BaseException] = field(default_factory=dict)
    asked: list[tuple[Workload, tuple[int, int]]] = field(default_factory=list)
    checked: list[Workload] = field(default_factory=list)
    scale: float = 1.0

    def connect(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def measure(
        self,
        workload: Workload,
        decisions: Decisions,
        incumbent: Decisions | None = None,
        incumbent_s: float = 0.0,
        thorough: bool = False,
    ) -> Outcome:
        if len(self.asked) in self.raises:
            raise self.raises[len(self.asked)]
        point = (decisions["x"], decisions["y"])
        (self.checked.append(workload) if thorough else self.asked.append((workload, point)))
        if point in self.bad:
            return self.bad[point]
        mine = self.time(workload, decisions) * self.scale
        theirs = None if incumbent is None else self.time(workload, incumbent) * self.scale
        ratio = 1.0 if theirs is None else mine / theirs
        rounds = THOROUGH_ROUNDS if thorough else 10
        return Outcome("ok", timing=Timing(mine, theirs, ratio, float(ratio < 1), rounds))


def searches(*workloads: Workload, default: int = 0) -> list[KernelSearch]:
    return [KernelSearch(workload, 1, space(default)) for workload in workloads]


def run(
    path: Path,
    measurer: FakeMeasurer,
    wanted: Sequence[KernelSearch],
    limits: Limits = NO_LIMITS,
    sources: Sequence[Source] = (),
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Tuner:
    tuner = Tuner(wanted, MACHINE, [measurer], RecordFile(path), limits, sources, on_progress)
    tuner.run()
    return tuner


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


# The search.


def test_finds_the_best_and_every_candidate_is_recorded_once(path: Path) -> None:
    measurer, wanted = FakeMeasurer(), searches(LARGE)
    tuner = run(path, measurer, wanted)
    assert tuner.end == "converged" and wanted[0].best is not None
    assert wanted[0].best.decisions == {"x": 3, "y": 2}
    assert len(measurer.asked) == len(set(measurer.asked)) == tuner.ledger.trials
    candidates = {(r.decisions["x"], r.decisions["y"]) for r in RecordFile(path).load().records}
    assert candidates == {point for _, point in measurer.asked}
    best = best_records(RecordFile(path).load().records)
    assert [r.decisions for r in best] == [{"x": 3, "y": 2}]
    assert best[0].seconds == pytest.approx(1e-3)


def test_finds_it_long_before_all_is_measured(path: Path) -> None:
    wanted = [KernelSearch(LARGE, 1, space(size=16))]
    run(path, FakeMeasurer(), wanted, Limits(trials=80))
    assert wanted[0].best is not None and wanted[0].best.decisions == {"x": 3, "y": 2}
    assert wanted[0].points > 250


def test_large_space_is_drawn_from(path: Path) -> None:
    def build(decisions: Decisions) -> None:
        raise AssertionError("the tuner itself builds nothing")

    axes = {"x": tuple(range(100)), "y": tuple(range(100)), "z": tuple(range(100))}
    large = Space("toy", axes, {"x": 50, "y": 50, "z": 50}, build, lambda d: (d["x"] + d["y"] + d["z"]) % 2 == 0)
    search = KernelSearch(LARGE, 1, large)
    assert 1000 < search.points < 8000
    measurer = FakeMeasurer()
    run(path, measurer, [search], Limits(trials=60))
    assert len(measurer.asked) == 60 and search.improved


def test_defaults_come_first_then_what_is_worth_most(path: Path) -> None:
    measurer = FakeMeasurer()
    run(path, measurer, searches(SMALL, LARGE), Limits(trials=30))
    assert [point for _, point in measurer.asked[:2]] == [(0, 0), (0, 0)]
    assert Counter(workload for workload, _ in measurer.asked[2:])[LARGE] >= 24


def test_calls_count_as_much_as_seconds(path: Path) -> None:
    wanted = [KernelSearch(SMALL, 10_000, space()), KernelSearch(LARGE, 1, space())]
    measurer = FakeMeasurer()
    run(path, measurer, wanted, Limits(trials=10))
    assert {workload for workload, _ in measurer.asked[2:]} == {SMALL}


def test_hints_follow_the_default(path: Path) -> None:
    record = Record(LARGE.name, "toy", {"x": 5, "y": 1}, "ok", 9, "elsewhere", MACHINE.lanes, 1e-3, True)
    stale = Record(SMALL.name, "toy", {"x": 99, "y": 1}, "ok", 9, "elsewhere", MACHINE.lanes, 1e-3, True)
    measurer = FakeMeasurer()
    run(path, measurer, searches(LARGE, SMALL), Limits(trials=4), [Source("shipped", (record, stale))])
    assert [point for workload, point in measurer.asked if workload == LARGE][:2] == [(0, 0), (5, 1)]


def test_nothing_is_kept_within_the_noise(path: Path) -> None:
    flat = FakeMeasurer(time=lambda workload, decisions: 1e-4 * (1 - 0.001 * decisions["x"]))
    wanted = searches(LARGE)
    run(path, flat, wanted)
    assert wanted[0].best is not None and wanted[0].best.decisions == {"x": 0, "y": 0} and not flat.checked


def test_failures_are_recorded_and_never_chosen(path: Path) -> None:
    outcomes = ("wrong", "crashed", "timeout", "build_error")
    bad = {(3, y): Outcome(status, "no good") for y, status in enumerate(outcomes)}  # type: ignore[arg-type]
    measurer, wanted = FakeMeasurer(bad=bad), searches(LARGE)
    tuner = run(path, measurer, wanted)
    best = wanted[0].best
    assert best is not None and best.status == "ok" and best.decisions["x"] != 3
    found = {r.decisions["y"]: r.status for r in RecordFile(path).load().records if r.decisions["x"] == 3}
    assert {y: found[y] for y in found if y < 4} == {y: s for y, s in enumerate(outcomes) if y in found}
    assert found and tuner.ledger.outcomes.total() == tuner.ledger.trials


def test_default_that_fails_is_not_the_end(path: Path) -> None:
    measurer, wanted = FakeMeasurer(bad={(0, 0): Outcome("crashed")}), searches(LARGE)
    run(path, measurer, wanted)
    assert wanted[0].best is not None and wanted[0].best.decisions == {"x": 3, "y": 2}
    hopeless = FakeMeasurer(bad={(x, y): Outcome("crashed") for x in range(6) for y in range(6)})
    wanted = searches(SMALL)
    assert run(path, hopeless, wanted).end == "converged" and wanted[0].best is None


def test_winner_by_luck_is_taken_back(path: Path) -> None:
    """Whatever beats the default in the search does not in the last long look."""

    @dataclass
    class Lucky(FakeMeasurer):
        def measure(self, *words: object, **named: object) -> Outcome:
            outcome = super().measure(*words, **named)  # type: ignore[arg-type]
            thorough = named.get("thorough", words[4] if len(words) > 4 else False)
            assert outcome.timing
            return replace(outcome, timing=replace(outcome.timing, ratio=1.01)) if thorough else outcome

    wanted = searches(LARGE)
    run(path, Lucky(), wanted)
    assert wanted[0].best is not None and wanted[0].best.decisions == {"x": 0, "y": 0}
    assert [r.decisions for r in best_records(RecordFile(path).load().records)] == [{"x": 0, "y": 0}]


def test_time_of_a_busy_moment_is_put_right(path: Path) -> None:
    """The default was timed while something else ran: the next comparison shows its real time."""

    @dataclass
    class Busy(FakeMeasurer):
        def measure(self, *words: object, **named: object) -> Outcome:
            self.scale = 1.0 if self.asked else 50.0
            return super().measure(*words, **named)  # type: ignore[arg-type]

    wanted = searches(LARGE)
    tuner = run(path, Busy(), wanted, Limits(trials=2))
    assert wanted[0].default is not None and wanted[0].default.seconds == pytest.approx(2.3e-3)
    assert tuner.ledger.before_s == pytest.approx(2.3e-3)
    again = searches(LARGE)
    assert run(path, FakeMeasurer(), again, Limits(trials=1)).ledger.before_s == pytest.approx(2.3e-3)


# Limits, stops and resumption.


def test_trials_are_a_limit(path: Path) -> None:
    measurer = FakeMeasurer()
    tuner = run(path, measurer, searches(LARGE, SMALL), Limits(trials=5))
    assert (tuner.end, tuner.ledger.trials, len(measurer.asked)) == ("trials", 5, 5)


def test_time_is_a_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10_000))
    monkeypatch.setattr(tuner_module.time, "monotonic", lambda: next(now))
    seen: list[Progress] = []
    tuner = run(path, FakeMeasurer(), searches(LARGE), Limits(seconds=40), on_progress=seen.append)
    assert tuner.end == "time" and tuner.ledger.trials < 30
    left = [progress.left_s for progress in seen]
    assert all(value is not None and 0 <= value < 40 for value in left)


def test_next_run_measures_nothing_again(path: Path) -> None:
    first, second = FakeMeasurer(bad={(1, 0): Outcome("crashed")}), FakeMeasurer()
    run(path, first, searches(LARGE, SMALL), Limits(trials=12))
    wanted = searches(LARGE, SMALL)
    tuner = run(path, second, wanted, Limits(trials=12))
    assert tuner.ledger.resumed == 12 and not set(first.asked) & set(second.asked)
    assert all(search.started for search in wanted)


def test_finished_run_has_nothing_left(path: Path) -> None:
    run(path, FakeMeasurer(), searches(LARGE))
    measurer = FakeMeasurer()
    assert run(path, measurer, searches(LARGE)).end == "converged" and measurer.asked == []


@pytest.mark.parametrize("change", [{"cores": 2}, {"mcpu": "other"}, {"tvm": "0"}, {"rule": "old"}])
def test_records_of_other_circumstances_are_not_known_here(change: dict[str, object], path: Path) -> None:
    run(path, FakeMeasurer(), searches(LARGE), Limits(trials=6))
    other = path.with_name("other.jsonl")
    for record in RecordFile(path).load().records:
        RecordFile(other).append(replace(record, **change))  # type: ignore[arg-type]
    assert run(other, FakeMeasurer(), searches(LARGE), Limits(trials=1)).ledger.resumed == 0


def test_interrupt_keeps_everything(path: Path) -> None:
    wanted = searches(LARGE)
    tuner = run(path, FakeMeasurer(raises={7: KeyboardInterrupt()}), wanted)
    assert (tuner.end, tuner.ledger.trials) == ("interrupted", 7) and len(RecordFile(path).load().records) == 7


def test_error_of_the_measurer_ends_the_run_with_its_records(path: Path) -> None:
    with pytest.raises(TuneError):
        run(path, FakeMeasurer(raises={3: TuneError("no worker")}), searches(LARGE))
    assert len(RecordFile(path).load().records) == 3


# Requests, tasks and reports.


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"limits": Limits(trials=0)}, "--trials 0: expected 1 or more"),
        ({"limits": Limits(seconds=0)}, "--minutes 0: expected a time above 0"),
        ({"limits": Limits(seconds=float("nan"))}, "--minutes nan: expected"),
        ({"threads": 0}, "--threads 0: expected from 1 to"),
        ({"threads": 10_000}, "--threads 10000: expected from 1 to"),
        ({"target": "x86-64-v5"}, "did you mean x86-64-v4?"),
        ({"network": NetworkRequest(phi="-1")}, "--phi -1"),
        ({"database": Path("/proc/none/records.jsonl")}, "cannot be opened for records"),
        ({"promote": Path(__file__)}, "is a file; expected a folder"),
        ({"promote": Path(__file__) / "new"}, "is a file; expected a folder"),
    ],
    ids=str,
)
def test_requests_that_make_no_sense(change: dict[str, object], text: str, path: Path) -> None:
    with pytest.raises(EffgenError) as error:
        check_tune_request(replace(TuneRequest(NetworkRequest(), database=path), **change))  # type: ignore[arg-type]
    assert text in str(error.value)


def test_kernels_of_a_network(tiny_spec: Path) -> None:
    from effgen.network import build_network

    calls = calls_of_network(build_network(NetworkRequest(spec=str(tiny_spec))))
    assert len(calls) > 5 and all(isinstance(count, int) for count in calls.values())
    found, untuned = searches_of({WORKLOAD: 2, GlobalAveragePool(1, 4, 4, 8): 1}, MACHINE, toy_spaces.space_of)
    assert [(search.workload, search.calls) for search in found] == [(WORKLOAD, 2)]
    assert untuned == ["f32_avgpool_c8_h4"]


def test_progress_says_where_it_stands(path: Path) -> None:
    seen: list[Progress] = []
    run(path, FakeMeasurer(), searches(LARGE, SMALL), Limits(trials=30, seconds=3600), on_progress=seen.append)
    assert [progress.started for progress in seen[:3]] == [1, 2, 2]
    assert "1 of 2 kernels" in note_from_progress(seen[0]) and "left" in note_from_progress(seen[0])
    assert " -> " in note_from_progress(seen[-1])
    assert seen[-1].latency_s < seen[-1].before_s
    assert [progress.trials for progress in seen if progress.phase != "check"] == list(range(1, 31))


def test_command_line_checks_before_anything_heavy_is_loaded(path: Path) -> None:
    code = f"""if True:
        import sys
        sys.argv = ["effgen", "tune", "--db", {str(path)!r}, "--trials", "0"]
        from effgen.cli import main
        try:
            main()
        except SystemExit as stop:
            print("LOADED", stop.code, *sys.modules, file=sys.stderr)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, loaded = done.stderr.split("LOADED")
    assert message.splitlines()[-1] == "error: --trials 0: expected 1 or more candidates" and done.stdout == ""
    assert loaded.split()[0] == "1" and not {"tvm", "torch", "onnx"} & set(loaded.split())


# The whole, with a real measuring process, from the command line.

CLI = """if True:
    import functools, sys
    from collections import Counter
    import effgen.tune, toy_spaces
    effgen.tune.TuneRequest = functools.partial(effgen.tune.TuneRequest, provider="toy_spaces:" + sys.argv.pop(1))
    effgen.tune.calls_of_network = lambda network: Counter({toy_spaces.WORKLOAD: 3})
    from effgen.cli import main
    main()
"""


def start(provider: str, path: Path, *words: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", CLI, provider, "tune", "-v", "--threads", "1", "--db", path, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([str(word) for word in command], text=True, env=environment, **pipes)  # type: ignore[call-overload, no-any-return]


def test_tune_kill_tune_again(path: Path, tmp_path: Path) -> None:
    with start("space_of", path) as process:
        for line in process.stderr:  # type: ignore[union-attr]
            if line.startswith("search "):
                break
        process.kill()
    killed = RecordFile(path).load()
    assert len(killed.records) >= 2
    with start("space_of", path, "--trials", "1", "--json", tmp_path / "r.json") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    after = RecordFile(path).load().records
    assert after[: len(killed.records)] == killed.records
    known = {json.dumps(dict(r.decisions)) for r in killed.records}
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["resumed"] == len(known) and data["trials"] == 1
    # The new candidate is none of the old ones (a known one may be recorded again where its time was put right).
    assert len({json.dumps(dict(r.decisions)) for r in after} - known) == 1
    assert "all calls" in out and "1 candidates measured" in out


def test_tune_promote_and_be_found(path: Path, tmp_path: Path) -> None:
    with start("space_of", path, "--promote", tmp_path / "shipped", "--json", "-") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    data = json.loads(out)
    assert data["end"] == "converged" and data["promoted"] == 1 and data["speedup"] > 2
    assert data["kernels"][0]["decisions"]["mode"] == FAST and data["kernels"][0]["checked"]
    assert data["outcomes"] == {"ok": data["trials"]}
    shipped = RecordFile(tmp_path / "shipped" / "records.jsonl").load().records
    assert [record.decisions["mode"] for record in shipped] == [FAST]
    promotion = json.loads((tmp_path / "shipped" / "manifest.json").read_text())["promotions"][0]
    assert {"tvm", "date", "machine", "cores", "candidates"} <= promotion.keys()
    # --fresh forgets: everything is measured anew, and first of all the default.
    with start("space_of", path, "--fresh", "--trials", "1") as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert [record.decisions["mode"] for record in RecordFile(path).load().records] == [SLOW]


@pytest.mark.parametrize(("number", "status", "word"), [(signal.SIGINT, 130, "interrupted")])
def test_stop_keeps_what_was_found(number: signal.Signals, status: int, word: str, path: Path) -> None:
    with start("space_of", path) as process:
        for line in process.stderr:  # type: ignore[union-attr]
            if line.startswith("search "):
                break
        process.send_signal(number)
        out, err = process.stdout.read(), process.stderr.read()  # type: ignore[union-attr]
    assert process.returncode == status, err
    assert "all calls" in out and "ended: interrupted" in out
    lines = err.splitlines()
    assert lines[-1] == word and "are kept in" in lines[-2] and "Traceback" not in err
    assert len(RecordFile(path).load().records) >= 2


def test_reports(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report by hand: many kernels, one without any time, a damaged database, a busy machine."""
    kernels = tuple(TunedKernel(f"kernel{i}", "toy", 2, 30, 5, 2e-4, 1e-4 * (1 + i), {"x": i}, True) for i in range(25))
    failed = TunedKernel("failed", "toy", 1, 30, 5, None, None, {"x": 0}, False, default_failed=True)
    report = TuneReport(
        model="m", target="cpu", machine="cpu", threads=1, end="time", seconds=75.0, trials=130, resumed=3,
        outcomes={"ok": 129, "crashed": 1}, before_s=1e-2, after_s=5e-3, kernels=(*kernels, failed),
        untuned=("a", "b", "c", "d"), database="db", ignored_lines=2, promoted=0, other_cpus=1.5,
        route="rpc", devices=("board",),
    )  # fmt: skip
    table = table_from_tune(report)
    assert table.row_count == 20 + 1 + 1
    notes = " ".join(notes_from_tune(report))
    assert "130 candidates measured (1 crashed, 129 ok), 3 known from before in 1:15 min, 104 a minute" in notes
    assert "4 kernels have no schedule space" in notes and "0 shipped records" in notes
    default, torn, busy = warnings_from_tune(report)
    assert "default schedule of failed gave no right result" in default
    assert "2 lines are no records" in torn and "1.5 CPUs busy" in busy
    assert json_from_tune(report)["speedup"] == 2.0
    assert warnings_from_tune(replace(report, kernels=kernels, ignored_lines=0, other_cpus=None)) == []
