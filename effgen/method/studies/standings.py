"""What the trials of a study say of what was planned: which items are open, running, done or failed.

Rules over the trials alone, so that every worker comes to the same answer and none has to remember anything.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

#: Why a failed trial failed; without a reason its worker was lost. "retried": a user wants it to be tried again.
Reason = Literal["error", "interrupted", "duplicate", "surplus", "retried"]

#: Seconds without a sign of life that a worker may ask for at the most: four times the longest --heartbeat.
LONGEST_GRACE_S = 4 * 3600.0

Standing = Literal["open", "running", "done", "failed"]

_ALIVE = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Item:
    """A trial that is planned: a key that no other item of the study has, and the parameters it is run with.

    With Optuna's `distributions` of all of them they are recorded as they are; without, the objective asks the trial
    for each, as it does where the sampler chooses.
    """

    key: str
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution] | None = None

    def trial(self, attributes: Mapping[str, Any]) -> FrozenTrial:
        """The running trial of this item, to be added to a study."""
        named: dict[str, Any] = {"state": TrialState.RUNNING, "user_attrs": {"item": self.key, **attributes}}
        if self.distributions is None:
            return optuna.create_trial(system_attrs={"fixed_params": dict(self.params)}, **named)
        return optuna.create_trial(params=dict(self.params), distributions=dict(self.distributions), **named)


def foreign_attribute(trial: FrozenTrial) -> str:
    """What of a trial's attributes is not as a worker writes it, in words; empty where all is. Other tools can change
    them, and a worker that was never lost would be waited for without end."""
    for name, is_right in _ATTRIBUTES.items():
        value = trial.user_attrs.get(name)
        if value is not None and not is_right(value):
            return f"attribute {name} is {reprlib.repr(value)}"
    return ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


#: The attributes of a trial, and what each must be.
_ATTRIBUTES: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("item", "reason", "error", "worker", "token", "network"), _is_text),
    **dict.fromkeys(("accuracy", "latency_s", "measured_share", "seconds"), _is_number),
    **dict.fromkeys(("beat", "epochs", "threads"), _is_count),
    "grace_s": lambda value: _is_number(value) and 0 <= value <= LONGEST_GRACE_S,
}


def standing(trials: Iterable[FrozenTrial], key: str, retries: int) -> Standing:
    """Where an item stands by the trials that were made for it; `retries`: how often it is done again whose worker was
    lost."""
    mine = [trial for trial in trials if trial.user_attrs.get("item") == key]
    states = {trial.state for trial in mine}
    if states & {TrialState.COMPLETE, TrialState.PRUNED}:
        return "done"
    if TrialState.RUNNING in states:
        return "running"
    failed = any(reason_of(trial) == "error" for trial in mine)
    return "failed" if failed or sum(map(_is_lost, mine)) > retries else "open"


def settled_items(trials: Iterable[FrozenTrial], items: Sequence[Item], retries: int) -> list[FrozenTrial]:
    """The trial that settled each of `items`, for those that are done or failed: one an item, nothing counted twice."""
    grouped, found = by_item(trials), []
    for item in items:
        mine = grouped.get(item.key, [])
        if standing(mine, item.key, retries) in ("done", "failed"):
            finished = [trial for trial in mine if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
            errors = [trial for trial in mine if reason_of(trial) == "error"]
            lost = [trial for trial in mine if _is_lost(trial)]
            found.append((finished or errors or lost[-1:])[0])
    return found


def by_item(trials: Iterable[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    """The trials of each item by its key; those that the sampler chose under the empty one."""
    found: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        found.setdefault(trial.user_attrs.get("item", ""), []).append(trial)
    return found


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those planned: alive, done, or failed by an error of its own."""
    return trial.state in _ALIVE or reason_of(trial) == "error"


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count, each network once where objectives note one (the attribute `network`): an item's trial
    before those that the sampler chose, then the first."""
    kept: dict[str | int, int] = {}
    for trial in sorted(filter(counts, trials), key=lambda one: ("item" not in one.user_attrs, one.number)):
        kept.setdefault(trial.user_attrs.get("network", trial.number), trial.number)
    numbers = set(kept.values())
    return [trial for trial in trials if trial.number in numbers]


def has_failed(trial: FrozenTrial) -> bool:
    """Whether a trial failed by an error of its own or lost its worker: what can be tried again."""
    return reason_of(trial) == "error" or _is_lost(trial)


def as_retried(trial: FrozenTrial) -> FrozenTrial:
    """The failed trial as one that is to be tried again: the same, for another reason."""
    changed = copy(trial)
    changed.user_attrs = {**trial.user_attrs, "reason": "retried"}
    return changed


def training_threads_of(trials: Iterable[FrozenTrial]) -> tuple[int, int] | None:
    """The fewest and the most threads of the trainings that are done; None where nobody knows."""
    done = (trial.user_attrs.get("threads") for trial in trials if trial.state == TrialState.COMPLETE)
    known = [count for count in done if count is not None]
    return (min(known), max(known)) if known else None


def reason_of(trial: FrozenTrial) -> Reason | None:
    """Why a trial failed; None where its worker was lost, or it did not fail."""
    reason: Reason | None = trial.user_attrs.get("reason") if trial.state == TrialState.FAIL else None
    return reason


def _is_lost(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and reason_of(trial) is None
