"""Backends timed in turn, round after round, so that whatever else the machine does hits all of them.

A backend of a race has a process of its own: threads of one that spin, allocators that keep memory and libraries that
do not live beside another one are then its own affair, and one that crashes is out of the race and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from effgen.judge.job import Run
from effgen.judge.messages import Burst, Entered, Entry, Flow, Refused, Steps, WarmUp
from effgen.judge.timing import REST_S, SLOW_CALL_S, WAKE_S, burst, warm_up
from effgen.measure.answering import AnsweringProcess
from effgen.measure.pipe import PipeClosedError
from effgen.results.reports import Plan
from effgen.words import OnPhase


class LostError(Exception):
    """A backend's process ended in the race; the text says how."""


class Racer(Protocol):
    """What is timed. Both raise LostError."""

    def warm_up(self) -> float:
        """Call until times settle; a call's seconds then."""

    def burst(self, time_s: float, wake_s: float) -> list[float]:
        """Seconds of each call until they add up to `time_s`, after `wake_s` of uncounted ones; of streams the images a
        second of such a time."""


@dataclass(frozen=True)
class Here:
    """Calls in this process."""

    run: Run

    def warm_up(self) -> float:
        return warm_up(self.run)

    def burst(self, time_s: float, wake_s: float) -> list[float]:
        return burst(self.run, time_s, wake_s)


class Contender(AnsweringProcess):
    """A backend in a process of its own; `told` says whether it is ready."""

    told: Entered | Refused

    def __init__(self, entry: Entry) -> None:
        """Start it, set it up and call it once, however long that takes."""
        super().__init__("effgen.judge.contender", {})
        try:
            self.told = self.ask(entry)
        except PipeClosedError:
            self.told = Refused(f"its process ended: {self.how_it_died()}")
        except BaseException:  # Ctrl-C
            self.close()
            raise

    def warm_up(self) -> float:
        (seconds,) = together([self], WarmUp())
        return float(seconds)

    def burst(self, time_s: float, wake_s: float) -> list[float]:
        (samples,) = together([self], Burst(time_s, wake_s))
        return list(samples)

    def steps(self, time_s: float, wake_s: float) -> NDArray[np.float64]:
        """As `burst`, of a bundle of ours: seconds of each step of each call, `(calls, steps)`."""
        (samples,) = together([self], Steps(time_s, wake_s))
        return np.asarray(samples)


def together(contenders: Sequence[Contender], request: WarmUp | Burst | Steps | Flow) -> list[Any]:
    """What they answer, all at it at the same time. Raises LostError."""
    answers: list[Any] = []
    lost = ""
    for contender in contenders:
        with suppress(PipeClosedError):  # which shows where its answer is waited for
            contender.tell(request)
    for contender in contenders:
        try:
            answers.append(contender.hear())
        except PipeClosedError:
            lost = f"its process ended: {contender.how_it_died()}"
    if lost:
        raise LostError(lost)
    return answers


@dataclass(frozen=True)
class Race:
    """What all bursts of a backend came to, in their order; of those that were lost, how."""

    bursts: Mapping[str, list[list[float]]]
    lost: Mapping[str, str]

    @property
    def samples(self) -> dict[str, list[float]]:
        """Seconds of every timed call by backend."""
        return {name: [seconds for burst in bursts for seconds in burst] for name, bursts in self.bursts.items()}


def run_race(racers: Mapping[str, Racer], plan: Plan, on_phase: OnPhase = lambda phase: None) -> Race:
    """Warm each up, then `plan.rounds` rounds of one burst each.

    The order turns from round to round, so that no backend always follows the same one.
    """
    bursts: dict[str, list[list[float]]] = {name: [] for name in racers}
    wake_s: dict[str, float] = {}
    lost: dict[str, str] = {}
    on_phase("warm up")
    for name, racer in racers.items():
        try:
            wake_s[name] = 0.0 if racer.warm_up() > SLOW_CALL_S else WAKE_S
        except LostError as error:
            lost[name] = str(error)
    on_phase(f"measure {plan.rounds} rounds of {len(racers)} backends")
    for turn in range(plan.rounds):
        for name in _rotated([name for name in racers if name not in lost], turn):
            time.sleep(REST_S)
            try:
                bursts[name].append(racers[name].burst(plan.min_time_s / plan.rounds, wake_s[name]))
            except LostError as error:
                lost[name] = str(error)
    return Race({name: found for name, found in bursts.items() if name not in lost}, lost)


def _rotated(names: list[str], turn: int) -> Iterable[str]:
    first = turn % max(1, len(names))
    return [*names[first:], *names[:first]]
