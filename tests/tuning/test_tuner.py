"""The tuner: what is measured next, what is kept, and runs that are stopped and taken up again."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from effgen.errors import TuneError
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target
from effgen.measure.carried.timing import THOROUGH_ROUNDS, Timing
from effgen.measure.protocol import Outcome
from effgen.records.database import RecordFile, best_records
from effgen.records.lookup import RecordSource, find_record
from effgen.records.record import Record, decision_key
from effgen.report.tune import note_from_progress
from effgen.schedules.space import Space
from effgen.tuning import tuner as tuner_module
from effgen.tuning.confirm import Verdict, by_loops
from effgen.tuning.ledger import Ledger
from effgen.tuning.search import KernelSearch
from effgen.tuning.tuner import Limits, Progress, Tuner

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


class SlowMeasurer(FakeMeasurer):
    """Takes long enough for another tuner to come by."""

    def measure(self, *arguments: Any, **keys: Any) -> Outcome:
        time.sleep(0.01)
        return super().measure(*arguments, **keys)


def searches(*workloads: Workload, default: int = 0) -> list[KernelSearch]:
    return [KernelSearch(workload, 1, space(default)) for workload in workloads]


def run(
    path: Path,
    measurer: FakeMeasurer,
    wanted: Sequence[KernelSearch],
    limits: Limits = NO_LIMITS,
    sources: Sequence[RecordSource] = (),
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
    assert wanted[0].best.seconds == pytest.approx(1e-3) and wanted[0].best.led
    # It is chosen once somebody says so.
    assert list(tuner.checked) == [LARGE.name] and best_records(RecordFile(path).load().records) == []
    assert by_loops(tuner.ledger, tuner.checked, 0.0).said == "better"
    assert [r.decisions for r in best_records(RecordFile(path).load().records)] == [{"x": 3, "y": 2}]


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


def shipped(workload: Workload, x: int, y: int, seconds: float = 1e-9, **more: Any) -> Record:
    """A record of another machine, whose seconds mean nothing here."""
    return Record(workload.name, "toy", {"x": x, "y": y}, "ok", 9, "elsewhere", MACHINE.lanes, seconds, True, **more)


def mine(workload: Workload, x: int, y: int, seconds: float, **more: Any) -> Record:
    """A record of this one, that is chosen."""
    words = {"seconds": seconds, "kept": True, **more}
    decisions = {"x": x, "y": y}
    return Record(workload.name, "toy", decisions, "ok", 1, MACHINE.processor, MACHINE.lanes, **words)


def test_what_ships_is_measured_first_and_is_to_be_beaten(path: Path) -> None:
    """Its seconds are another machine's: nothing is faster than they are, and two candidates are faster than it."""
    measurer, wanted = FakeMeasurer(), searches(LARGE, SMALL)
    sources = [RecordSource("shipped", (shipped(LARGE, 5, 1), shipped(SMALL, 99, 1)))]
    tuner = run(path, measurer, wanted, Limits(trials=80), sources)
    assert [point for workload, point in measurer.asked if workload == LARGE][:2] == [(5, 1), (0, 0)]
    assert next(point for workload, point in measurer.asked if workload == SMALL) == (0, 0)  # of the other none is left
    assert wanted[0].today == {"x": 5, "y": 1} and wanted[0].incumbent is not None
    assert wanted[0].incumbent.seconds == pytest.approx(1.5e-3)
    assert tuner.ledger.before_s == pytest.approx(1.5e-3 + 2.3e-5) and tuner.ledger.latency_s < 1.1e-3
    assert tuner.checked[LARGE.name].ratio == pytest.approx(1 / 1.5)


def test_nothing_beats_the_best_that_ships(path: Path) -> None:
    wanted = searches(LARGE)
    tuner = run(path, FakeMeasurer(), wanted, sources=[RecordSource("shipped", (shipped(LARGE, 3, 2),))])
    assert tuner.end == "converged" and not wanted[0].improved and not tuner.checked
    assert tuner.ledger.before_s == tuner.ledger.latency_s == pytest.approx(1e-3)


def test_record_of_ones_own_is_to_be_beaten_by_its_own_scale(path: Path) -> None:
    """Of an earlier TVM, when the machine was slow: it is not measured again, what beats it is chosen."""
    own = mine(LARGE, 4, 2, 1e-2, tvm="0")
    RecordFile(path).append(own)
    measurer, wanted = FakeMeasurer(), searches(LARGE)
    sources = [RecordSource("database", (own,), own=True), RecordSource("shipped", (shipped(LARGE, 5, 1),))]
    tuner = run(path, measurer, wanted, sources=sources)
    assert (LARGE, (4, 2)) not in measurer.asked and {point for _, point in measurer.asked[:2]} == {(0, 0), (5, 1)}
    by_loops(tuner.ledger, tuner.checked, 0.0)
    found = find_record(LARGE, MACHINE, space(), [RecordSource("database", RecordFile(path).load().records, own=True)])
    assert found is not None and found[0].decisions == {"x": 3, "y": 2} and found[0].time_s < 1e-2


def test_default_of_a_record_with_more_cores_is_measured_here(path: Path) -> None:
    """A record for two threads says which decisions a network for one gets, not how long they take."""
    own = replace(mine(LARGE, 4, 2, 1e-9), cores=2)
    RecordFile(path).append(own)
    measurer, wanted = FakeMeasurer(), searches(LARGE)
    run(path, measurer, wanted, Limits(trials=1), [RecordSource("database", (own,), own=True)])
    assert measurer.asked == [(LARGE, (4, 2))] and wanted[0].incumbent is not None
    assert wanted[0].incumbent.seconds == pytest.approx(1.1e-3)


def test_what_works_takes_the_place_of_what_does_not(path: Path) -> None:
    """Without a comparison: there is nothing to compare it with."""
    measurer, wanted = FakeMeasurer(bad={(5, 1): Outcome("wrong", "relative L2 error 1")}), searches(LARGE)
    tuner = run(path, measurer, wanted, sources=[RecordSource("shipped", (shipped(LARGE, 5, 1),))])
    assert not tuner.checked
    tuner.ledger.rescue()
    assert tuner.ledger.broken == {LARGE.name}
    assert [r.decisions for r in best_records(RecordFile(path).load().records)] == [{"x": 3, "y": 2}]


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
    """Whatever beats today's in the search does not in the last long look."""

    @dataclass
    class Lucky(FakeMeasurer):
        def measure(self, *words: object, **named: object) -> Outcome:
            outcome = super().measure(*words, **named)  # type: ignore[arg-type]
            thorough = named.get("thorough", words[4] if len(words) > 4 else False)
            assert outcome.timing
            return replace(outcome, timing=replace(outcome.timing, ratio=1.01)) if thorough else outcome

    wanted = searches(LARGE)
    tuner = run(path, Lucky(), wanted)
    assert wanted[0].best is not None and wanted[0].best.decisions == {"x": 0, "y": 0} and not tuner.checked
    again, known = FakeMeasurer(), searches(LARGE)
    run(path, again, known)
    assert not again.asked and not known[0].improved


def test_winner_within_the_noise_is_neither_chosen_nor_forgotten(path: Path) -> None:
    """It won 24 of 40 rounds of the last look: so do two of the same speed, one time in seven."""

    @dataclass
    class Close(FakeMeasurer):
        def measure(self, *words: object, **named: object) -> Outcome:
            outcome = super().measure(*words, **named)  # type: ignore[arg-type]
            assert outcome.timing
            return replace(outcome, timing=replace(outcome.timing, wins=0.6)) if named["thorough"] else outcome

    wanted = searches(LARGE)
    tuner = run(path, Close(), wanted)
    assert wanted[0].improved and not tuner.checked
    again = searches(LARGE)
    assert list(run(path, FakeMeasurer(), again).checked) == [LARGE.name]


def test_beside_other_work_loops_choose_nothing(path: Path) -> None:
    tuner = run(path, FakeMeasurer(), searches(LARGE))
    assert tuner.checked and by_loops(tuner.ledger, tuner.checked, 1.0) == Verdict("disturbed", other_cpus=1.0)
    assert best_records(RecordFile(path).load().records) == []


def test_time_of_a_busy_moment_is_put_right(path: Path) -> None:
    """Today's was timed while something else ran: the next comparison shows its real time."""

    @dataclass
    class Busy(FakeMeasurer):
        def measure(self, *words: object, **named: object) -> Outcome:
            self.scale = 1.0 if self.asked else 50.0
            return super().measure(*words, **named)  # type: ignore[arg-type]

    wanted = searches(LARGE)
    tuner = run(path, Busy(), wanted, Limits(trials=2))
    assert wanted[0].incumbent is not None and wanted[0].incumbent.seconds == pytest.approx(2.3e-3)
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


def test_progress_says_where_it_stands(path: Path) -> None:
    seen: list[Progress] = []
    run(path, FakeMeasurer(), searches(LARGE, SMALL), Limits(trials=30, seconds=3600), on_progress=seen.append)
    assert [progress.started for progress in seen[:3]] == [1, 2, 2]
    assert "1 of 2 kernels" in note_from_progress(seen[0]) and "left" in note_from_progress(seen[0])
    assert " -> " in note_from_progress(seen[-1])
    assert seen[-1].latency_s < seen[-1].before_s
    assert [progress.trials for progress in seen if progress.phase != "check"] == list(range(1, 31))


# Several tuners on one database.


def test_tuners_that_share_a_database_measure_nothing_twice(path: Path) -> None:
    both = searches(LARGE, SMALL), searches(LARGE, SMALL), searches(LARGE, SMALL)
    measurers = [SlowMeasurer() for _ in both]
    tuners = [Tuner(some, MACHINE, [one], RecordFile(path)) for some, one in zip(both, measurers, strict=True)]
    threads = [threading.Thread(target=tuner.run) for tuner in tuners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [candidate for measurer in measurers for candidate in measurer.asked]
    assert len(asked) == len(set(asked)) > 20
    assert all(measurer.asked for measurer in measurers)
    keys = [(record.kernel, decision_key(record.decisions)) for record in RecordFile(path).load().records]
    assert set(keys) == {(workload.name, decision_key({"x": x, "y": y})) for workload, (x, y) in asked}
    bests = [{search.workload.name: search.best and search.best.decisions for search in some} for some in both]
    assert {tuner.end for tuner in tuners} == {"converged"} and bests[0] == bests[1] == bests[2]


def test_a_candidate_of_another_tuner_that_died_is_measured_here(path: Path) -> None:
    other = Ledger(searches(LARGE, SMALL), MACHINE, RecordFile(path))
    wanted = searches(LARGE)
    assert other.claim(other.searches[0], wanted[0].space.default)
    measurer, limits = FakeMeasurer(), Limits(trials=3)
    tuner = Tuner(wanted, MACHINE, [measurer], RecordFile(path), limits)
    thread = threading.Thread(target=tuner.run)
    thread.start()
    time.sleep(0.5)
    assert not measurer.asked and thread.is_alive()  # waits: there is nothing to compare others with
    other.close()
    thread.join()
    assert len(measurer.asked) == 3 and tuner.end == "trials"
