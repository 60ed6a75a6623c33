"""The loop of one worker: it takes what no other worker has, shows that it is alive, and goes on until all is done.

A worker takes an item of a plan by adding a running trial for it, and owns it if no running or finished trial of the
same item has a lower number: numbers are given by the storage, one after the other, so all workers agree who was first.
A running trial says that it is alive by counting `beat` up; one whose count stands still for `grace_s`, by the clock of
whoever watches, belongs to a worker that was killed, and is failed. That works alike with every kind of storage. What
then happens to the item is a rule over the trials alone (`effgen.studies.standings`).
"""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from effgen.errors import EffgenError, StudyError, TrainingError
from effgen.studies.standings import Item, Reason, by_item, counted, settled_items, standing
from effgen.studies.storage import SharedStudy

log = logging.getLogger("effgen")

#: Seconds between attempts to reach a storage: a server that is started anew.
_PAUSES_S = (1.0, 5.0, 15.0, 30.0)

Result = TypeVar("Result")

#: Items from which a worker picks one, so that those which start together rarely pick the same.
_CHOICE = 8


@dataclass(frozen=True)
class Policy:
    """How workers watch each other.

    `heartbeat_s`: seconds between two signs of life. `retries`: how often an item is done again whose worker was lost.
    """

    heartbeat_s: float = 15.0
    retries: int = 2

    @property
    def grace_s(self) -> float:
        """Seconds without a sign of life after which a worker counts as lost."""
        return 4 * self.heartbeat_s

    @property
    def poll_s(self) -> float:
        """Seconds between two looks at what the others do, where nothing is left to take."""
        return min(1.0, self.heartbeat_s / 2)


DEFAULT_POLICY = Policy()


@dataclass(frozen=True)
class Settled:
    """A trial that has come to its end, by whichever worker, and how many of those planned have."""

    trial: FrozenTrial
    done: int
    planned: int


@dataclass(frozen=True)
class Claim:
    """A trial that this worker owns; `item` is None where the sampler chose the parameters."""

    trial: optuna.Trial
    item: Item | None
    _lost: threading.Event = field(default_factory=threading.Event)

    @property
    def lost(self) -> bool:
        """Whether other workers have given this trial up (a sleeping machine): its result will not count."""
        return self._lost.is_set()


class Repeated(Exception):  # noqa: N818 - no error, as optuna.TrialPruned is none
    """An objective's answer to parameters that another trial had in other words: this one does not count."""


#: The value of a trial. Raises optuna.TrialPruned to stop early, an EffgenError for a failure to be recorded, Repeated.
Objective = Callable[[Claim], float]
OnSettled = Callable[[Settled], None]


def run_items(
    shared: SharedStudy,
    items: Sequence[Item],
    objective: Objective,
    policy: Policy = DEFAULT_POLICY,
    on_settled: OnSettled = lambda settled: None,
) -> None:
    """Work until every one of `items` is done or has failed, here or by other workers.

    An EffgenError of the objective is kept with its trial, which is not repeated. On Ctrl-C, or any other exception,
    the item is given back. Raises StudyError where the storage fails.
    """
    worker = _Worker(shared, policy, on_settled)
    while True:
        trials = by_item(worker.look(lambda seen: settled_items(seen, items, policy.retries), len(items)))
        standings = {item.key: standing(trials.get(item.key, []), item.key, policy.retries) for item in items}
        free = [item for item in items if standings[item.key] == "open"]
        if free:
            worker.work(worker.claim(random.choice(free[:_CHOICE])), objective)
        elif "running" in standings.values():
            time.sleep(policy.poll_s)
        else:
            return


def run_samples(
    shared: SharedStudy,
    count: int,
    objective: Objective,
    start: Item | None = None,
    policy: Policy = DEFAULT_POLICY,
    on_settled: OnSettled = lambda settled: None,
) -> None:
    """Work until `count` trials are done over all workers, those that failed by an error included.

    `start` is one of them and comes first; the sampler chooses the others. A trial whose worker was lost or
    interrupted does not count, and the sampler chooses another one in its place. Errors as in `run_items`.
    """
    worker = _Worker(shared, policy, on_settled)
    while True:
        trials = worker.look(
            lambda seen: [trial for trial in counted(seen) if trial.state != TrialState.RUNNING], count
        )
        planned = counted(trials)
        if start is not None and standing(trials, start.key, policy.retries) == "open":
            worker.work(worker.claim(start), objective)
        elif len(planned) < count:
            worker.work(worker.ask(count), objective)
        elif any(trial.state == TrialState.RUNNING for trial in planned):
            time.sleep(policy.poll_s)
        else:
            return


def worker_name() -> str:
    """This process, as trials name their worker: host and process number."""
    return f"{socket.gethostname()}:{os.getpid()}"


class _Worker:
    """One process's view of a study: what it has seen, and what it does to it."""

    def __init__(self, shared: SharedStudy, policy: Policy, on_settled: OnSettled) -> None:
        self._shared, self._policy, self._on_settled = shared, policy, on_settled
        self._told: set[int] | None = None
        self._beats: dict[int, tuple[int, float]] = {}

    def look(self, settled_of: Callable[[list[FrozenTrial]], list[FrozenTrial]], planned: int) -> list[FrozenTrial]:
        """The trials as they are now, those of lost workers failed. What has settled since the last look is told."""
        trials = _patiently(lambda: self._shared.trials)
        stale = [trial for trial in trials if self._is_stale(trial)]
        for trial in stale:
            self._give_up(trial)
        if stale:
            trials = self._shared.trials
        settled = settled_of(trials)
        if self._told is None:  # what is known from before is no news
            self._told = {trial.number for trial in settled}
        fresh = [trial for trial in settled if trial.number not in self._told]
        for trial in fresh:
            self._told.add(trial.number)
            self._on_settled(Settled(trial, len(self._told), planned))
        return trials

    def _is_stale(self, trial: FrozenTrial) -> bool:
        """Whether a running trial has shown no sign of life for as long as its worker allowed, by the clock here."""
        if trial.state != TrialState.RUNNING:
            return False
        beat, now = trial.user_attrs.get("beat", -1), time.monotonic()
        seen, since = self._beats.get(trial.number, (None, now))
        if seen != beat:
            since = now
        self._beats[trial.number] = (beat, since)
        return now - since > float(trial.user_attrs.get("grace_s", self._policy.grace_s))

    def _give_up(self, trial: FrozenTrial) -> None:
        """Fail a trial whose worker was lost; of several workers that try, one does."""
        with self._shared.errors(), suppress(ValueError, UpdateFinishedTrialError):  # finished by now
            self._shared.study.tell(trial.number, state=TrialState.FAIL)
            log.warning("trial %d: its worker %s was lost", trial.number, trial.user_attrs.get("worker", "(unknown)"))

    def claim(self, item: Item) -> Claim | None:
        """A new trial for `item`; None where another worker was faster."""
        token = uuid.uuid4().hex
        with self._shared.errors():
            self._shared.study.add_trial(item.trial({"token": token, **self._signs()}))
        same = [trial for trial in self._shared.trials if trial.user_attrs.get("item") == item.key]
        number = next(trial.number for trial in same if trial.user_attrs.get("token") == token)
        claim = Claim(self._shared.trial(number), item)
        if standing((trial for trial in same if trial.number < number), item.key, self._policy.retries) != "open":
            self._fail(claim, "duplicate")
            return None
        return claim

    def ask(self, count: int) -> Claim | None:
        """A trial whose parameters the sampler chooses; None where other workers have taken the last of `count`."""
        with self._shared.errors():
            claim = Claim(self._shared.study.ask(), None)
            for key, value in self._signs().items():
                claim.trial.set_user_attr(key, value)
        before = [trial for trial in self._shared.trials if trial.number < claim.trial.number]
        if len(counted(before)) >= count:
            self._fail(claim, "surplus")
            return None
        return claim

    def _signs(self) -> dict[str, Any]:
        return {"worker": worker_name(), "beat": 0, "grace_s": self._policy.grace_s}

    def work(self, claim: Claim | None, objective: Objective) -> None:
        """Run the objective, if there is a claim, and write down how it ended."""
        if claim is None:
            return
        with _heartbeat(claim, self._policy.heartbeat_s):
            try:
                value = objective(claim)
                if not math.isfinite(value):
                    raise TrainingError(f"the result is {value}; expected a number")
            except StudyError:  # the storage is out of reach: no fault of the trial
                self._give_back(claim)
                raise
            except optuna.TrialPruned:
                self._tell(claim, state=TrialState.PRUNED)
            except Repeated:
                self._fail(claim, "duplicate")
            except UpdateFinishedTrialError:  # the objective had something to note
                _warn_given_up(claim)
            except EffgenError as error:
                self._fail(claim, "error", " ".join(str(error).split()))
            except BaseException:
                self._give_back(claim)
                raise
            else:
                self._tell(claim, values=value)

    def _fail(self, claim: Claim, reason: Reason, error: str = "") -> None:
        with self._shared.errors():
            try:
                if error:
                    claim.trial.set_user_attr("error", error)
                claim.trial.set_user_attr("reason", reason)
            except UpdateFinishedTrialError:
                return
        self._tell(claim, state=TrialState.FAIL)

    def _tell(self, claim: Claim, **outcome: Any) -> None:
        """Write down how a trial ended: what took long to compute is not lost for a moment's trouble."""

        def tell() -> None:
            with self._shared.errors():
                self._shared.study.tell(claim.trial, **outcome)

        try:
            _patiently(tell)
        except (ValueError, UpdateFinishedTrialError):
            log.warning("trial %d: the other workers had given it up: its result does not count", claim.trial.number)

    def _give_back(self, claim: Claim) -> None:
        """On the way out with another exception, which must not be lost if the storage fails too."""
        try:
            self._fail(claim, "interrupted")
        except StudyError as error:
            log.warning("%s", error)


def _warn_given_up(claim: Claim) -> None:
    log.warning("trial %d: the other workers had given it up: its result does not count", claim.trial.number)


def _patiently(action: Callable[[], Result]) -> Result:
    """What an action on the storage returns, tried again for a while where it is out of reach."""
    for pause_s in _PAUSES_S:
        try:
            return action()
        except StudyError as error:
            log.warning("%s (trying again in %g s)", error, pause_s)
            time.sleep(pause_s)
    return action()


@contextmanager
def _heartbeat(claim: Claim, every_s: float) -> Iterator[None]:
    """Count the trial's `beat` up meanwhile."""
    over = threading.Event()

    def beat() -> None:
        count = 0
        while not over.wait(every_s):
            count += 1
            try:
                claim.trial.set_user_attr("beat", count)
            except UpdateFinishedTrialError:
                claim._lost.set()
                return
            except Exception as error:  # the storage is out of reach: maybe not for long
                log.debug("trial %d: no sign of life sent: %s", claim.trial.number, error)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
