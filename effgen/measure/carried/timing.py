"""Whether one kernel is faster than another, on a machine that does other things too.

The two are timed in turn, a burst of one, a burst of the other, round after round: what disturbs hits both, and the
ratio within a round stays. Other work only ever makes a call slower, by whole time slices where two threads must share
a CPU: so the lower quartile stands for a burst, and the median for the rounds.

How a call is timed is the caller's: here, through an RPC session or in a folder on another machine. That folder holds
a copy of this very file, so it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from operator import truediv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    #: One kernel: makes so many calls, each with cold caches, and returns the seconds of each.
    Side = Callable[[int], list[float]]

#: Rounds of a comparison: at first; until a clear loser is given up; where the candidate may be the better one.
ROUNDS, EARLY_ROUNDS, CONFIRMED_ROUNDS = 10, 4, 24

#: Rounds of a thorough comparison.
THOROUGH_ROUNDS = 40

#: Seconds of one burst, with what is done between the calls; at least one call.
BURST_S = 0.003

_MOST_CALLS = 200

#: A candidate this much slower in every early round has lost; below `_MAYBE_BETTER` it is worth the longer series.
_LOST, _MAYBE_BETTER = 1.08, 0.99

#: What happens by chance this seldom is taken for a difference, where it is the last word.
CHANCE = 0.01

#: A single call takes so many times the incumbent's, after a first one to warm up: no series is needed.
_HOPELESS = 3.0


@dataclass(frozen=True)
class Timing:
    """Seconds of a call; `ratio` candidate / incumbent: the median over the rounds, 1 without an incumbent.

    `wins` is the share of rounds in which the candidate was the faster one.
    """

    seconds: float
    incumbent_seconds: float | None
    ratio: float
    wins: float
    rounds: int


def compare(candidate: Side, incumbent: Side, thorough: bool = False, burst_s: float = BURST_S) -> Timing:
    """Time both in turn, in bursts of about `burst_s` seconds."""
    first, calls = _first(candidate, burst_s)
    theirs_first, their_calls = _first(incumbent, burst_s)
    if first > _HOPELESS * theirs_first and not thorough:
        first, theirs_first = min(first, *candidate(1)), min(theirs_first, *incumbent(1))
        if first > _HOPELESS * theirs_first:
            return Timing(first, theirs_first, first / theirs_first, 0.0, 1)
    mine: list[float] = []
    theirs: list[float] = []
    while len(mine) < _rounds_wanted(mine, theirs, thorough):
        # The order turns, so that neither always follows the other.
        sides = [(mine, candidate, calls), (theirs, incumbent, their_calls)]
        for samples, side, number in sides if len(mine) % 2 else sides[::-1]:
            samples.append(_burst(side, number))
    return _timing(mine, theirs)


def alone(side: Side, burst_s: float = BURST_S) -> Timing:
    """Time one kernel with nothing to compare it to."""
    side(1)
    calls = max(_first(side, burst_s)[1], _first(side, burst_s)[1])
    bursts = sorted(_burst(side, calls) for _ in range(ROUNDS))
    return Timing(bursts[ROUNDS // 4], None, 1.0, 1.0, ROUNDS)


def timed(run: Callable[[], object], between: Callable[[], object]) -> Side:
    """A side in this process: `between` makes the caches cold before every call of `run`, untimed."""

    def calls(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            between()
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return seconds

    return calls


def better(timing: Timing) -> bool:
    """Whether the candidate beats the incumbent beyond the noise: by 2%, and in three rounds of four."""
    return timing.ratio < 0.98 and timing.wins >= 0.75


def chance_of(wins: int, rounds: int) -> float:
    """How likely it is that at least `wins` of so many rounds are won by one of two that are equally fast."""
    return sum(math.comb(rounds, count) for count in range(wins, rounds + 1)) / 2.0**rounds


def _timing(mine: list[float], theirs: list[float]) -> Timing:
    ratios = list(map(truediv, mine, theirs))
    wins = sum(ratio < 1 for ratio in ratios) / len(ratios)
    return Timing(
        statistics.median(mine), statistics.median(theirs), statistics.median(ratios), wins, rounds=len(ratios)
    )


def _rounds_wanted(mine: list[float], theirs: list[float], thorough: bool) -> int:
    """How many rounds the comparison should have, seen from those so far."""
    if thorough:
        return THOROUGH_ROUNDS
    done = len(mine)
    if done < EARLY_ROUNDS:
        return EARLY_ROUNDS
    timing = _timing(mine, theirs)
    if done == EARLY_ROUNDS and min(map(truediv, mine, theirs)) > _LOST:
        return done
    if done >= ROUNDS and (timing.ratio < _MAYBE_BETTER or timing.wins >= 0.75):
        return CONFIRMED_ROUNDS
    return max(ROUNDS, done)


def _first(side: Side, burst_s: float) -> tuple[float, int]:
    """Seconds of one call, and how many calls fill a burst with what is done between them."""
    start = time.perf_counter()
    (seconds,) = side(1)
    each = time.perf_counter() - start
    return seconds, max(1, min(_MOST_CALLS, round(burst_s / each)))


def _burst(side: Side, number: int) -> float:
    """Lower quartile of `number` calls, seconds; a first one wakes caches and threads and does not count."""
    seconds = side(number + 1)[1:] if number > 1 else side(1)
    return sorted(seconds)[number // 4]
