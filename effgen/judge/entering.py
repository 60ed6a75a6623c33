"""What the process of one backend in a race does: set it up, call it once, then bursts of calls when it is asked to."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
from numpy.typing import NDArray

from effgen.judge.case import golden_pair
from effgen.judge.job import PeerJob, Run
from effgen.judge.memory import peak_bytes, resident_bytes
from effgen.judge.messages import Burst, Entered, Entry, Flow, Flowed, Refused, WarmUp, refusal
from effgen.judge.peers import PEERS
from effgen.judge.queues import QUEUES, Queue
from effgen.judge.timing import burst, flow, warm_up
from effgen.results.reports import OURS, OWN
from effgen.runtime import read_manifest
from effgen.runtime.manifest import MODEL
from effgen.runtime.model import load_checked


def _run_of(entry: Entry, image: NDArray[np.float32]) -> Run:
    """What one call is."""
    if entry.backend == OURS:
        model = load_checked(entry.bundle, read_manifest(entry.bundle), entry.threads)
        return lambda: model(image)
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


def answer_to(run: Run, request: WarmUp | Burst | Flow) -> float | list[float] | Flowed:
    """What a request after the first one is answered with."""
    if isinstance(request, WarmUp):
        return warm_up(run)
    if isinstance(request, Burst):
        return burst(run, request.time_s, request.wake_s)
    flowed = run.flow if isinstance(run, Queue) else partial(flow, run)
    return Flowed(*flowed(request.time_s, request.wake_s))
