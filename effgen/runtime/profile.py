"""How long each call inside a network takes, by the clock around every call of the library's VM.

Numpy and the TVM runtime only, as for running a bundle.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.runtime.model import LoadedModel

#: How the VM's own functions begin: allocation, shape checks, views. All other calls are kernels.
OWN_FUNCTIONS = "vm."

#: One reading of the clock: name of the call, whether before it, seconds.
Event = tuple[str, bool, float]


@dataclass(frozen=True)
class Trace:
    """One run of a network: the VM's calls in order, the seconds of each with the clock's own cost, and of the run."""

    names: tuple[str, ...]
    seconds: tuple[float, ...]
    whole_s: float


@dataclass(frozen=True)
class TimedCall:
    """A kernel's call at one place of the network: median seconds, without the clock's own cost."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Profile:
    """Medians over runs: the kernel calls in order, and the run with all its clocks.

    `clock_s` is what was subtracted from each call. It is the reading for the cheapest of the VM's own functions,
    which do next to nothing; the arguments of a kernel take the clock a little longer, see `most_clock_s`.
    """

    calls: tuple[TimedCall, ...]
    clock_s: float
    traced_s: float
    vm_calls: int

    def most_clock_s(self, plain_s: float) -> float:
        """At most this much of each call's time is still the clock's, where a run without clocks takes `plain_s`.

        All that the clocks cost, shared out over the calls of the VM, less what was subtracted.
        """
        return max(0.0, (self.traced_s - plain_s) / self.vm_calls - self.clock_s)


def trace(model: LoadedModel, image: NDArray[np.float32]) -> Trace:
    """Run `model` once with a clock around each call of its VM."""
    events: list[Event] = []
    # Bound to locals: this function is what the measured time is burdened with.
    record, clock = events.append, time.perf_counter

    def instrument(_function: Any, name: str, before: bool, *_rest: Any) -> int:
        record((name, before, clock()))
        return 0

    with model.instrumented(instrument):
        start = clock()
        model(image)
        whole_s = clock() - start
    names, seconds = _calls_from_events(events)
    return Trace(names, seconds, whole_s)


def _calls_from_events(events: Iterable[Event]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Names and seconds of the calls, in the order in which they end; calls may be nested."""
    calls: list[tuple[str, float]] = []
    started: list[float] = []
    for name, before, now in events:
        if before:
            started.append(now)
        else:
            calls.append((name, now - started.pop()))
    return tuple(name for name, _ in calls), tuple(seconds for _, seconds in calls)


def profile_from_traces(traces: Sequence[Trace]) -> Profile:
    """The medians of runs of one network."""
    names = traces[0].names
    assert all(trace.names == names for trace in traces), "a network makes the same calls in every run"
    medians = np.median([trace.seconds for trace in traces], axis=0)
    own = [float(seconds) for name, seconds in zip(names, medians, strict=True) if name.startswith(OWN_FUNCTIONS)]
    clock_s = min(own, default=0.0)
    calls = tuple(
        TimedCall(name, max(0.0, float(seconds) - clock_s))
        for name, seconds in zip(names, medians, strict=True)
        if not name.startswith(OWN_FUNCTIONS)
    )
    whole_s = float(np.median([trace.whole_s for trace in traces]))
    return Profile(calls, clock_s, whole_s, len(names))
