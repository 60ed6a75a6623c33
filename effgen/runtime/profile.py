"""How long each kernel call inside a network takes, by a clock between the library's steps.

Numpy only, as for running a bundle.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effgen.runtime.cuda import CudaModel
from effgen.runtime.model import LoadedModel


@dataclass(frozen=True)
class Trace:
    """One run of a network: the kernels called, in order, the seconds of each, and of the run."""

    names: tuple[str, ...]
    seconds: tuple[float, ...]
    whole_s: float


@dataclass(frozen=True)
class TimedCall:
    """A kernel's call at one place of the network: median seconds."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Profile:
    """Medians over runs: the kernel calls in order, and the run with its clocks."""

    calls: tuple[TimedCall, ...]
    traced_s: float

    def clock_s(self, plain_s: float) -> float:
        """What a clock adds to each call, where a run without clocks takes `plain_s`."""
        return max(0.0, (self.traced_s - plain_s) / len(self.calls))


def trace(model: LoadedModel | CudaModel, image: NDArray[np.float32]) -> Trace:
    """Run `model` once with a clock between its steps."""
    start = time.perf_counter()
    nanoseconds = model.trace(image)
    whole_s = time.perf_counter() - start
    return Trace(tuple(model.manifest.steps), tuple(np.diff(nanoseconds) / 1e9), whole_s)


def profile_from_traces(traces: Sequence[Trace]) -> Profile:
    """The medians of runs of one network."""
    names = traces[0].names
    assert all(trace.names == names for trace in traces), "a network makes the same calls in every run"
    medians = np.median([trace.seconds for trace in traces], axis=0)
    calls = tuple(TimedCall(name, float(seconds)) for name, seconds in zip(names, medians, strict=True))
    return Profile(calls, float(np.median([trace.whole_s for trace in traces])))
