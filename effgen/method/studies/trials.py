"""The trials of a study as plain data, for reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from effgen.method.studies.storage import SharedStudy


@dataclass(frozen=True)
class TrialRow:
    """A trial; `item` is None where the sampler chose its parameters.

    `state` is running, complete, pruned or fail; why it failed is `reason` (as
    `effgen.method.studies.standings.Reason`; None: its worker was lost), and `error` in words.
    """

    number: int
    item: str | None
    params: Mapping[str, Any]
    state: str
    value: float | None
    seconds: float | None
    worker: str | None
    reason: str | None
    error: str | None


def trial_rows(shared: SharedStudy) -> list[TrialRow]:
    """All trials as they are now, in the order of their numbers, those that count for nothing included."""
    names = ("seconds", "worker", "reason", "error")
    return [
        TrialRow(
            trial.number,
            trial.user_attrs.get("item"),
            trial.params,
            trial.state.name.lower(),
            trial.value,
            *(trial.user_attrs.get(name) for name in names),
        )
        for trial in shared.trials
    ]
