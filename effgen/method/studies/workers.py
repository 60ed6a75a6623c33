"""The loop of one worker: it takes what no other worker has, shows that it is alive, and goes on until all is done.

A worker takes an item of a plan by adding a running trial for it, and owns it if no running or finished trial of the
same item has a lower number: numbers are given by the storage, one after the other, so all workers agree who was first.
A running trial says that it is alive by counting `beat` up; one whose count stands still for `grace_s`, by the clock of
whoever watches, belongs to a worker that was killed, and is failed. That works alike with every kind of storage. What
then happens to the item is a rule over the trials alone (`effgen.method.studies.standings`).
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from effgen.errors import StudyError, TrainingError
from effgen.method.studies.standings import Item, Reason, by_item, counted, settled_items, standing
from effgen.method.studies.storage import SharedStudy, UnreadableError

log = logging.getLogger("effgen")

#: Seconds between attempts to reach a storage: a server that is started anew.
_PAUSES_S = (1.0, 5.0, 15.0, 30.0)

Returned = TypeVar("Returned")

#: So many failures in a row at a worker's beginning are no longer the trials' own.
_FIRST_FAILURES = 3

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
    """A trial that this worker owns; `item` is None where the sampler chose the parameters.

    What the objective puts into `notes` becomes the trial's attributes together with its end, which waits for a storage
    that is away for a moment.
    """

    trial: optuna.Trial
    item: Item | None
    notes: dict[str, Any] = field(default_factory=dict)
    _lost: threading.Event = field(default_factory=threading.Event)
    _when_over: list[Callable[[], None]] = field(default_factory=list)

    @property
    def lost(self) -> bool:
        """Whether other workers have given this trial up (a sleeping machine): its result will not count."""
        return self._lost.is_set()

    def when_over(self, action: Callable[[], None]) -> None:
        """Call `action` once the trial's end is in the storage, or was given up there; not where it is given back."""
        self._when_over.append(action)

    def over(self) -> None:
        """Nothing more will be done for this trial here."""
        while self._when_over:
            self._when_over.pop()()


class Repeated(Exception):  # noqa: N818 - no error, as optuna.TrialPruned is none
    """An objective's answer to parameters that another trial had in other words: this one does not count."""


#: The value of a trial. Raises optuna.TrialPruned to stop early, TrainingError for a failure to be recorded, Repeated.
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

    A TrainingError of the objective is kept with its trial, which is not repeated. On Ctrl-C, or any other exception,
    the item is given back, and the exception raised. Raises StudyError where the storage fails, and where nothing but
    TrainingErrors come of the first trials here: something is wrong with this machine.
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
        self._looked = -math.inf
        self._failed_first: int | None = 0

    def look(self, settled_of: Callable[[list[FrozenTrial]], list[FrozenTrial]], planned: int) -> list[FrozenTrial]:
        """The trials as they are now, those of lost workers failed. What has settled since the last look is told."""
        trials = patiently(lambda: self._shared.trials, self._beats.clear)
        self._restart_clocks_after_a_gap()
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

    def _restart_clocks_after_a_gap(self) -> None:
        """Who has not looked for long cannot know whether the storage was out of reach for the others, too."""
        now = time.monotonic()
        if now - self._looked > self._policy.grace_s / 2:
            self._beats.clear()
        self._looked = now

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
            except optuna.TrialPruned:
                self._end(claim, state=TrialState.PRUNED)
            except Repeated:
                self._fail(claim, "duplicate")
                return
            except UpdateFinishedTrialError:  # the objective had something to note
                _given_up(claim)
            except TrainingError as error:
                text = " ".join(str(error).split())
                self._fail(claim, "error", text)
                self._check_first_failures(text)
                return
            except BaseException:
                self._give_back(claim)
                raise
            else:
                self._end(claim, values=value)
            self._failed_first = None

    def _check_first_failures(self, error: str) -> None:
        """Raise StudyError where all that this worker has begun so far failed: it might go through the whole plan."""
        if self._failed_first is None:
            return
        self._failed_first += 1
        if self._failed_first == _FIRST_FAILURES:
            raise StudyError(
                f"{self._shared.where}: the first {_FIRST_FAILURES} trials of this worker all failed, the last one by: "
                f"{error}; mend that and give --retry-failed to try them again, or start again to go on without them"
            )

    def _fail(self, claim: Claim, reason: Reason, error: str = "") -> None:
        claim.notes.update({"error": error, "reason": reason} if error else {"reason": reason})
        self._end(claim, state=TrialState.FAIL)

    def _end(self, claim: Claim, **outcome: Any) -> None:
        """Write down how a trial ended: what took long to compute is not lost for a moment's trouble."""
        try:
            patiently(lambda: self._tell(claim, claim.notes, **outcome))
        except (ValueError, UpdateFinishedTrialError):
            _given_up(claim)
        else:
            claim.over()

    def _tell(self, claim: Claim, notes: Mapping[str, Any], **outcome: Any) -> None:
        with self._shared.errors():
            for key, value in notes.items():
                claim.trial.set_user_attr(key, value)
            self._shared.study.tell(claim.trial, **outcome)

    def _give_back(self, claim: Claim) -> None:
        """On the way out with another exception, which must not be lost, nor have to wait, if the storage fails too."""
        try:
            self._tell(claim, {"reason": "interrupted"}, state=TrialState.FAIL)
        except StudyError as error:
            log.warning("%s", error)
        except (ValueError, UpdateFinishedTrialError):
            _given_up(claim)


def _given_up(claim: Claim) -> None:
    log.warning("trial %d: the other workers had given it up: its result does not count", claim.trial.number)
    claim.over()


def patiently(action: Callable[[], Returned], on_failure: Callable[[], None] = lambda: None) -> Returned:
    """What an action on the storage returns, tried again for a while where it is out of reach."""
    for pause_s in _PAUSES_S:
        try:
            return action()
        except UnreadableError:
            raise
        except StudyError as error:
            on_failure()
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
