"""Calls of one backend, timed: until they settle, then in bursts."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np

#: Worker threads of the backend before spin for a moment after its last call: let them go to sleep.
REST_S = 0.03

#: Calls that start within this time of a burst are not counted: caches and threads of the backend wake up.
WAKE_S = 0.03

#: Where one call takes longer than this, waking up is lost in it and no call of a burst is thrown away.
SLOW_CALL_S = 0.5

#: Warm-up ends when the medians of two windows in a row agree to this share, or after the time limit.
_STABLE_SHARE = 0.03
_WINDOW_S = 0.15
_LONGEST_WARM_UP_S = 5.0


def burst(run: Callable[[], Any], time_s: float, wake_s: float) -> list[float]:
    """Seconds of each call until they add up to `time_s` (at least one call), after `wake_s` of uncounted calls."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        while time.perf_counter() - start < wake_s:
            run()
        samples: list[float] = []
        total = 0.0
        while not samples or total < time_s:
            samples.append(_timed(run))
            total += samples[-1]
        return samples
    finally:
        if collecting:
            gc.enable()


def flow(run: Callable[[], Any], time_s: float, wake_s: float) -> tuple[int, float]:
    """How many calls a `burst` has and their seconds together, beside other processes at the same: none ends before the
    last call of another one that began as this did."""
    samples = burst(run, time_s, wake_s)
    burst(run, max(samples), wake_s=0.0)
    return len(samples), sum(samples)


def warm_up(run: Callable[[], Any]) -> float:
    """Call until two windows in a row agree, or for a few seconds; returns the median of the last window, seconds."""
    start, before = time.perf_counter(), float("inf")
    while True:
        now = float(np.median(burst(run, _WINDOW_S, wake_s=0.0)))
        if abs(now - before) <= _STABLE_SHARE * now or time.perf_counter() - start > _LONGEST_WARM_UP_S:
            return now
        before = now


def _timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
