"""Workers that share a plan: everything is done once, whoever dies."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from effgen.errors import BuildError, DataError, EffgenError, StudyError, TrainingError, TuneError
from effgen.method.studies.standings import Item, counts, reason_of, settled_items, standing
from effgen.method.studies.storage import SharedStudy, open_study
from effgen.method.studies.workers import Claim, Policy, Settled, _Worker, run_items, run_samples

#: Signs of life so often that a test need not wait long for them.
QUICK = Policy(heartbeat_s=0.5, retries=2)
#: So rarely that of several workers at once none is taken for lost, however busy the machine is.
CALM = Policy(heartbeat_s=60.0, retries=2)
#: More than anything here takes; a test that waits so long has failed.
PATIENCE_S = 600
ITEMS = [Item(f"item {number}", {"x": number / 10}) for number in range(10)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/trials.db"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedStudy]:
    """A study of one worker, in the storage that opens fastest."""
    with closing(open_study(f"journal://{tmp_path}/log", "mine", {})) as study:
        yield study


def value_of(claim: Claim) -> float:
    return float(claim.trial.suggest_float("x", 0.0, 1.0))


def fail_often(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int) -> None:
    """Let a method of the storage fail the first `times`, with no pause between a worker's two further attempts."""
    monkeypatch.setattr("effgen.method.studies.workers._PAUSES_S", (0.0, 0.0))
    whole, failures = getattr(owner, name), iter(range(times))

    def method(*arguments: Any, **named: Any) -> Any:
        if next(failures, None) is not None:
            raise optuna.exceptions.StorageInternalError("gone")
        return whole(*arguments, **named)

    monkeypatch.setattr(owner, name, method)


def in_threads(url: str, count: int, work: Callable[[SharedStudy], None]) -> None:
    """`work` by so many workers at once, each with a connection of its own."""
    together = threading.Barrier(count)
    problems: list[BaseException] = []

    def run() -> None:
        with closing(open_study(url, "mine", {})) as shared:
            together.wait()
            try:
                work(shared)
            except BaseException as error:
                problems.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems


def dead_trial(shared: SharedStudy, item: Item | None, grace_s: float = 0.0) -> None:
    """What a worker leaves that was killed."""
    attributes: dict[str, Any] = {"worker": "gone:1", "beat": 3, "grace_s": grace_s}
    if item is not None:
        attributes["item"] = item.key
    shared.study.add_trial(optuna.create_trial(state=TrialState.RUNNING, user_attrs=attributes))


def outcomes(trials: Sequence[FrozenTrial]) -> Counter[tuple[str, str | None]]:
    return Counter((trial.state.name, reason_of(trial)) for trial in trials)


def test_workers_that_start_at_once_do_each_item_once(url: str) -> None:
    ran: list[str] = []

    def objective(claim: Claim) -> float:
        assert claim.item is not None
        ran.append(claim.item.key)
        return value_of(claim)

    in_threads(url, 4, lambda shared: run_items(shared, ITEMS, objective, CALM))
    assert sorted(ran) == sorted(item.key for item in ITEMS)
    with closing(open_study(url, "mine", {})) as shared:
        done = settled_items(shared.trials, ITEMS, QUICK.retries)
        assert [trial.value for trial in done] == [item.params["x"] for item in ITEMS]
        assert [trial.params for trial in done] == [dict(item.params) for item in ITEMS]
        found = outcomes(shared.trials)
        assert found.pop(("COMPLETE", None)) == len(ITEMS) and set(found) <= {("FAIL", "duplicate")}


def test_of_two_workers_that_take_the_same_item_the_first_has_it(shared: SharedStudy) -> None:
    one, other = (_Worker(shared, QUICK, lambda settled: None) for _ in range(2))
    mine = one.claim(ITEMS[0])
    assert mine is not None and other.claim(ITEMS[0]) is None
    one.work(mine, value_of)
    assert other.claim(ITEMS[0]) is None
    assert outcomes(shared.trials) == {("COMPLETE", None): 1, ("FAIL", "duplicate"): 2}


def test_an_item_that_has_failed_meanwhile_is_not_granted_again(shared: SharedStudy) -> None:
    def diverge(claim: Claim) -> float:
        raise TrainingError("diverged")

    one, other = (_Worker(shared, QUICK, lambda settled: None) for _ in range(2))
    one.work(one.claim(ITEMS[0]), diverge)  # after `other` has looked
    assert other.claim(ITEMS[0]) is None
    assert outcomes(shared.trials) == {("FAIL", "error"): 1, ("FAIL", "duplicate"): 1}


def test_every_end_is_told_once_with_how_many_there_are(shared: SharedStudy) -> None:
    told: list[Settled] = []
    run_items(shared, ITEMS[:2], value_of, QUICK, told.append)
    assert [(settled.done, settled.planned) for settled in told] == [(1, 2), (2, 2)]
    run_items(shared, ITEMS[:3], value_of, QUICK, told.append)
    assert [(settled.done, settled.planned) for settled in told[2:]] == [(3, 3)]


def test_an_error_is_kept_and_not_repeated(shared: SharedStudy) -> None:
    calls: list[str] = []

    def objective(claim: Claim) -> float:
        assert claim.item is not None
        calls.append(claim.item.key)
        if claim.item is ITEMS[1]:
            raise TrainingError("it\ndiverged")
        return value_of(claim)

    for _ in range(2):
        run_items(shared, ITEMS[:3], objective, QUICK)
    assert sorted(calls) == [item.key for item in ITEMS[:3]]
    failed = settled_items(shared.trials, ITEMS[:3], QUICK.retries)[1]
    assert failed.state == TrialState.FAIL and failed.user_attrs["error"] == "it diverged"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_result_that_is_no_number_is_an_error(shared: SharedStudy, value: float) -> None:
    run_items(shared, ITEMS[:1], lambda claim: value, QUICK)
    assert outcomes(shared.trials) == {("FAIL", "error"): 1}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, StudyError, ZeroDivisionError])
def test_an_item_is_given_back_when_its_worker_stops(shared: SharedStudy, stop: type[BaseException]) -> None:
    def objective(claim: Claim) -> float:
        raise stop

    for _ in range(5):  # more often than lost workers are allowed
        with pytest.raises(stop):
            run_items(shared, ITEMS[:1], objective, QUICK)
    run_items(shared, ITEMS[:1], value_of, QUICK)
    assert outcomes(shared.trials) == {("COMPLETE", None): 1, ("FAIL", "interrupted"): 5}


def test_the_item_of_a_lost_worker_is_done_again(shared: SharedStudy) -> None:
    dead_trial(shared, ITEMS[0])
    run_items(shared, ITEMS[:2], value_of, QUICK)
    assert outcomes(shared.trials) == {("COMPLETE", None): 2, ("FAIL", None): 1}
    assert settled_items(shared.trials, ITEMS[:2], QUICK.retries)[0].value == 0.0


def test_an_item_that_loses_its_workers_again_and_again_is_failed(shared: SharedStudy) -> None:
    told: list[Settled] = []
    for _ in range(QUICK.retries + 1):
        dead_trial(shared, ITEMS[0])
    run_items(shared, ITEMS[:1], value_of, QUICK, told.append)
    assert outcomes(shared.trials) == {("FAIL", None): QUICK.retries + 1}
    assert [settled.trial.number for settled in told] == [QUICK.retries]


def test_a_slow_trial_is_not_taken_for_a_lost_one(shared: SharedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is counted in signs of life, so that it does not matter when a busy machine gives them."""
    policy, beats = Policy(heartbeat_s=0.1), 0
    clock = SimpleNamespace(monotonic=lambda: beats * policy.heartbeat_s, sleep=time.sleep)
    monkeypatch.setattr("effgen.method.studies.workers.time", clock)
    watcher = _Worker(shared, policy, lambda settled: None)

    def objective(claim: Claim) -> float:
        nonlocal beats
        end = time.monotonic() + PATIENCE_S
        while beats * policy.heartbeat_s <= 1.5 * policy.grace_s:
            assert time.monotonic() < end
            [trial] = watcher.look(lambda seen: [], 1)
            assert trial.state == TrialState.RUNNING
            beats = trial.user_attrs["beat"]
            time.sleep(policy.heartbeat_s / 4)
        return value_of(claim)

    run_items(shared, ITEMS[:1], objective, policy)
    assert outcomes(shared.trials) == {("COMPLETE", None): 1}


def test_the_result_of_a_trial_that_was_given_up_does_not_count(shared: SharedStudy) -> None:
    noticed: list[bool] = []

    def objective(claim: Claim) -> float:
        if claim.trial.number == 0:  # meanwhile another worker thinks that this one is lost
            shared.study.tell(0, state=TrialState.FAIL)
            end = time.monotonic() + PATIENCE_S
            while not claim.lost and time.monotonic() < end:
                time.sleep(0.05)
            noticed.append(claim.lost)
            return 1.0
        return value_of(claim)

    run_items(shared, ITEMS[:1], objective, QUICK)
    assert noticed == [True]
    assert outcomes(shared.trials) == {("FAIL", None): 1, ("COMPLETE", None): 1}
    assert settled_items(shared.trials, ITEMS[:1], QUICK.retries)[0].value == 0.0


@pytest.mark.parametrize("times, kept", [(2, True), (3, False)])
def test_a_result_waits_for_a_storage_that_comes_back(
    shared: SharedStudy, monkeypatch: pytest.MonkeyPatch, times: int, kept: bool
) -> None:
    fail_often(monkeypatch, shared.study, "tell", times)
    if kept:
        run_items(shared, ITEMS[:1], value_of, QUICK)
        assert outcomes(shared.trials) == {("COMPLETE", None): 1}
    else:
        with pytest.raises(StudyError, match=r"study mine in .*: gone; start the same command again"):
            run_items(shared, ITEMS[:1], value_of, QUICK)


@pytest.mark.parametrize("diverges", [False, True], ids=["result", "error"])
def test_what_is_noted_waits_for_the_storage_too(
    shared: SharedStudy, monkeypatch: pytest.MonkeyPatch, diverges: bool
) -> None:
    calls: list[str] = []

    def objective(claim: Claim) -> float:
        calls.append("trained")
        claim.notes["seconds"] = 3.0
        if diverges:
            raise TrainingError("diverged")
        return 0.5

    fail_often(monkeypatch, shared.storage, "set_trial_user_attr", 2)
    run_items(shared, ITEMS[:1], objective, QUICK)
    [trial] = shared.trials
    assert calls == ["trained"] and trial.user_attrs["seconds"] == 3.0
    assert (trial.user_attrs.get("error"), trial.value) == (("diverged", None) if diverges else (None, 0.5))


@pytest.mark.parametrize("error", [BuildError, DataError, TuneError])
def test_what_is_wrong_with_the_machine_is_no_failure_of_the_trial(
    shared: SharedStudy, error: type[EffgenError]
) -> None:
    def objective(claim: Claim) -> float:
        raise error("the disk is full")

    with pytest.raises(error, match=r"^the disk is full$"):
        run_items(shared, ITEMS[:3], objective, QUICK)
    assert outcomes(shared.trials) == {("FAIL", "interrupted"): 1}
    run_items(shared, ITEMS[:3], value_of, QUICK)
    assert outcomes(shared.trials) == {("FAIL", "interrupted"): 1, ("COMPLETE", None): 3}


@pytest.mark.parametrize("good", [0, 1])
def test_a_worker_whose_first_trials_all_fail_stops(shared: SharedStudy, good: int) -> None:
    calls: list[str] = []

    def objective(claim: Claim) -> float:
        calls.append("")
        if len(calls) > good:
            raise TrainingError("no CUDA")
        return 0.5

    if good:
        run_items(shared, ITEMS, objective, QUICK)
        assert outcomes(shared.trials) == {("COMPLETE", None): 1, ("FAIL", "error"): 9}
        return
    with pytest.raises(StudyError, match=r"the first 3 trials of this worker all failed, the last one by: no CUDA; "):
        run_items(shared, ITEMS, objective, QUICK)
    assert outcomes(shared.trials) == {("FAIL", "error"): 3}


@pytest.mark.parametrize("outage", ["a look that fails", "a gap"])
def test_a_watcher_that_saw_nothing_for_long_takes_nobody_for_lost(
    shared: SharedStudy, monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    seconds = [0.0]
    clock = SimpleNamespace(monotonic=lambda: seconds[0], sleep=lambda pause_s: None)
    monkeypatch.setattr("effgen.method.studies.workers.time", clock)
    worker = _Worker(shared, QUICK, lambda settled: None)
    dead_trial(shared, ITEMS[0], QUICK.grace_s)

    def is_running_at(after: float) -> bool:
        seconds[0] = after * QUICK.grace_s
        [trial] = worker.look(lambda seen: [], 1)
        return trial.state == TrialState.RUNNING

    assert is_running_at(0) and is_running_at(0.4) and is_running_at(0.8)
    back = 1.2 if outage == "a look that fails" else 3
    with monkeypatch.context() as patch:
        if outage == "a look that fails":
            fail_often(patch, shared.study, "get_trials", 1)
        assert is_running_at(back)
    assert is_running_at(back + 0.4) and is_running_at(back + 0.8) and not is_running_at(back + 1.2)


def test_samples_come_to_their_number_over_all_workers(url: str) -> None:
    start = Item("start", {"x": 0.25})
    in_threads(url, 4, lambda shared: run_samples(shared, 12, value_of, start, CALM))
    with closing(open_study(url, "mine", {})) as shared:
        found = outcomes(shared.trials)
        assert found.pop(("COMPLETE", None)) == 12 and set(found) <= {("FAIL", "duplicate"), ("FAIL", "surplus")}
        starts = [trial for trial in shared.trials if trial.user_attrs.get("item") == "start" and counts(trial)]
        assert [trial.params for trial in starts] == [{"x": 0.25}]


def test_pruned_and_failed_samples_count_and_lost_ones_do_not(shared: SharedStudy) -> None:
    def objective(claim: Claim) -> float:
        if claim.trial.number == 1:
            raise optuna.TrialPruned
        if claim.trial.number == 2:
            raise TrainingError("diverged")
        return value_of(claim)

    dead_trial(shared, None)
    run_samples(shared, 4, objective, policy=QUICK)
    assert outcomes(shared.trials) == {
        ("COMPLETE", None): 2,
        ("PRUNED", None): 1,
        ("FAIL", "error"): 1,
        ("FAIL", None): 1,
    }


def test_more_samples_than_before_go_on_from_there(shared: SharedStudy) -> None:
    run_samples(shared, 3, value_of, policy=QUICK)
    run_samples(shared, 5, value_of, policy=QUICK)
    assert outcomes(shared.trials) == {("COMPLETE", None): 5}


_ENDS = st.sampled_from(
    [("RUNNING", None), ("COMPLETE", None), ("PRUNED", None), *(("FAIL", reason) for reason in (
        None, "error", "interrupted", "duplicate"))]
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from("ab"), _ENDS), max_size=12), st.integers(0, 3))
def test_an_item_stands_by_its_own_trials(made: list[tuple[str, tuple[str, str | None]]], retries: int) -> None:
    trials = []
    for number, (key, (state, reason)) in enumerate(made):
        attributes = {"item": key} | ({} if reason is None else {"reason": reason})
        value = 1.0 if state == "COMPLETE" else None
        trial = optuna.create_trial(state=TrialState[state], value=value, user_attrs=attributes)
        trial.number = number
        trials.append(trial)
    ends = [end for key, end in made if key == "a"]
    found = standing(trials, "a", retries)
    assert (found == "done") == any(state in ("COMPLETE", "PRUNED") for state, _ in ends)
    assert (found == "running") == (found != "done" and ("RUNNING", None) in ends)
    given_up = ("FAIL", "error") in ends or ends.count(("FAIL", None)) > retries
    assert (found == "failed") == (found not in ("done", "running") and given_up)
    settled = settled_items(trials, [Item("a", {}), Item("b", {})], retries)
    keys = [trial.user_attrs["item"] for trial in settled]
    assert len(keys) == len(set(keys)) and ("a" in keys) == (found in ("done", "failed"))
    if found == "done":
        assert settled[0].state in (TrialState.COMPLETE, TrialState.PRUNED)
