"""Whether one kernel is faster than another, on a machine that does other things too.

The two are timed in turn, a burst of one, a burst of the other, round after round: what disturbs hits both, and the
ratio within a round stays. Other work only ever makes a call slower, by whole time slices where two threads must share
a CPU: so the lower quartile stands for a burst, and the median for the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from effgen.measure.protocol import Timing

Run = Callable[[], object]

#: Rounds of a comparison: at first; until a clear loser is given up; where the candidate may be the better one.
ROUNDS, EARLY_ROUNDS, CONFIRMED_ROUNDS = 10, 4, 24

#: Rounds of a thorough comparison.
THOROUGH_ROUNDS = 40

#: Seconds of one burst, with what is done between the calls; at least one call.
BURST_S = 0.003

#: A candidate this much slower in every early round has lost; below `_MAYBE_BETTER` it is worth the longer series.
_LOST, _MAYBE_BETTER = 1.08, 0.99

#: A single call takes so many times the incumbent's, after a first one to warm up: no series is needed.
_HOPELESS = 3.0


def compare(candidate: Run, incumbent: Run, between: Run, thorough: bool = False) -> Timing:
    """Time both in turn; `between` runs before every call, untimed."""
    candidate_s, incumbent_s = _one(candidate, between), _one(incumbent, between)
    if candidate_s > _HOPELESS * incumbent_s and not thorough:
        candidate_s, incumbent_s = (
            min(candidate_s, _one(candidate, between)),
            min(incumbent_s, _one(incumbent, between)),
        )
        if candidate_s > _HOPELESS * incumbent_s:
            return Timing(candidate_s, incumbent_s, candidate_s / incumbent_s, 0.0, 1)
    calls = [_calls(seconds, between) for seconds in (candidate_s, incumbent_s)]
    mine: list[float] = []
    theirs: list[float] = []
    while len(mine) < _rounds_wanted(mine, theirs, thorough):
        # The order turns, so that neither always follows the other.
        sides = [(mine, candidate, calls[0]), (theirs, incumbent, calls[1])]
        for samples, run, number in sides if len(mine) % 2 else sides[::-1]:
            samples.append(_burst(run, between, number))
    return _timing(mine, theirs)


def alone(run: Run, between: Run) -> Timing:
    """Time one kernel with nothing to compare it to."""
    _one(run, between)
    number = _calls(min(_one(run, between), _one(run, between)), between)
    bursts = sorted(_burst(run, between, number) for _ in range(ROUNDS))
    return Timing(bursts[ROUNDS // 4], None, 1.0, 1.0, ROUNDS)


def better(timing: Timing) -> bool:
    """Whether the candidate beats the incumbent beyond the noise: by 2%, and in three rounds of four."""
    return timing.ratio < 0.98 and timing.wins >= 0.75


def _timing(mine: list[float], theirs: list[float]) -> Timing:
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
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
    if done == EARLY_ROUNDS and min(a / b for a, b in zip(mine, theirs, strict=True)) > _LOST:
        return done
    if done >= ROUNDS and (timing.ratio < _MAYBE_BETTER or timing.wins >= 0.75):
        return CONFIRMED_ROUNDS
    return max(ROUNDS, done)


def _one(run: Run, between: Run) -> float:
    between()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _burst(run: Run, between: Run, number: int) -> float:
    """Lower quartile of `number` calls, seconds; a first one wakes caches and threads and does not count."""
    if number > 1:
        _one(run, between)
    return sorted(_one(run, between) for _ in range(number))[number // 4]


def _calls(seconds: float, between: Run) -> int:
    """Calls that fill a burst."""
    start = time.perf_counter()
    between()
    each = seconds + (time.perf_counter() - start)
    return max(1, min(200, round(BURST_S / each)))
