"""What the tests of workers that share a plan have in common."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from effgen.method.studies.standings import Item, reason_of
from effgen.method.studies.storage import SharedStudy, open_study
from effgen.method.studies.workers import Claim, Policy

#: Signs of life so often that a test need not wait long for them.
QUICK = Policy(heartbeat_s=0.5, retries=2)

#: So rarely that of several workers at once none is taken for lost, however busy the machine is.
CALM = Policy(heartbeat_s=60.0, retries=2)

#: More than anything here takes; a test that waits so long has failed.
PATIENCE_S = 600

ITEMS = [Item(f"item {number}", {"x": number / 10}) for number in range(10)]


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
