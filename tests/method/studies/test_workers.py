"""Workers that share a plan: everything is done once, and every end is told."""

from __future__ import annotations

import math
from contextlib import closing

import optuna
import pytest
from optuna.trial import TrialState
from shared_plans import CALM, ITEMS, QUICK, dead_trial, in_threads, outcomes, value_of

from effgen.errors import BuildError, DataError, EffgenError, StudyError, TrainingError, TuneError
from effgen.method.studies.standings import Item, counts, settled_items
from effgen.method.studies.storage import SharedStudy, open_study
from effgen.method.studies.workers import Claim, Settled, _Worker, run_items, run_samples


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
