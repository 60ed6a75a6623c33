"""What the process of one backend in a race does: set it up, call it once, then bursts of calls when it is asked to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from effgen.judge.case import golden_pair
from effgen.judge.job import PeerJob, Run
from effgen.judge.memory import peak_bytes, resident_bytes
from effgen.judge.messages import Burst, Entered, Entry, Flow, Flowed, Refused, Steps, WarmUp, refusal
from effgen.judge.peers import PEERS
from effgen.judge.queues import QUEUES, Queue
from effgen.judge.timing import burst, flow, warm_up
from effgen.results.reports import OURS, OWN
from effgen.runtime import LoadedModel, read_manifest
from effgen.runtime.answers import Answer
from effgen.runtime.cuda import CudaModel
from effgen.runtime.manifest import MODEL
from effgen.runtime.model import load_checked


@dataclass(frozen=True)
class _OwnRun:
    """A call of a bundle of ours."""

    model: LoadedModel | CudaModel
    image: NDArray[np.float32]

    def __call__(self) -> Answer:
        answer: Answer = self.model(self.image)
        return answer

    def steps(self, request: Steps) -> NDArray[np.float64]:
        """Seconds of each step of each call that counts."""
        traces: list[NDArray[np.int64]] = []
        counted = burst(lambda: traces.append(self.model.trace(self.image)), request.time_s, request.wake_s)
        return np.diff(traces[-len(counted) :], axis=1) / 1e9


def _run_of(entry: Entry, image: NDArray[np.float32]) -> Run:
    """What one call is."""
    if entry.backend == OURS:
        return _OwnRun(load_checked(entry.bundle, read_manifest(entry.bundle), entry.threads), image)
    job = PeerJob(entry.bundle / MODEL, image, entry.threads, entry.streams)
    return QUEUES[entry.backend].prepare(job) if entry.backend in QUEUES else PEERS[entry.backend].prepare(job)


def enter(entry: Entry, runtime_bytes: int) -> tuple[Run | None, Entered | Refused]:
    """The backend set up and called once, or why that cannot be.

    `runtime_bytes`: what effgen's runtime takes in this process already, which counts where it is what runs.
    """
    if entry.cpus:
        os.sched_setaffinity(0, entry.cpus)
    try:
        image = golden_pair(entry.bundle)[0]
        before = resident_bytes()
        run = _run_of(entry, image)
        answer = run()
    except Exception as error:
        return None, refusal(error)
    peak = peak_bytes()
    own = runtime_bytes if entry.backend in OWN else 0
    memory = None if before is None or peak is None else max(0, peak - before) + own
    return run, Entered(answer, memory, run.streams if isinstance(run, Queue) else None)


def answer_to(run: Run, request: WarmUp | Burst | Steps | Flow) -> float | list[float] | NDArray[np.float64] | Flowed:
    """What a request after the first one is answered with."""
    match request:
        case WarmUp():
            return warm_up(run)
        case Burst():
            return burst(run, request.time_s, request.wake_s)
        case Steps():
            assert isinstance(run, _OwnRun), "only a bundle of ours has steps"
            return run.steps(request)
        case Flow():
            flowed = run.flow if isinstance(run, Queue) else partial(flow, run)
            return Flowed(*flowed(request.time_s, request.wake_s))
        case _:
            assert_never(request)
