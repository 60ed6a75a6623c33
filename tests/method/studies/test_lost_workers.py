"""Workers that are lost, slow or cut off from the storage: nothing is lost with them."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from shared_plans import ITEMS, PATIENCE_S, QUICK, dead_trial, fail_often, outcomes, value_of

from effgen.errors import StudyError, TrainingError
from effgen.method.studies.standings import settled_items
from effgen.method.studies.storage import SharedStudy
from effgen.method.studies.workers import Claim, Policy, Settled, _Worker, run_items


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
