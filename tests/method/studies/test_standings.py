"""How an item of a plan stands, by its own trials alone."""

from __future__ import annotations

import optuna
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from effgen.method.studies.standings import Item, settled_items, standing

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
