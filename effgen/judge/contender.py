"""The process of one backend in a race: `python -m effgen.judge.contender`, started by `effgen.judge.race`.

It loads the bundle or sets a peer up, calls it once, and then runs bursts of calls when it is asked to: between them it
waits. It ends with its parent.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from effgen.errors import EffgenError
from effgen.judge.case import golden_pair
from effgen.judge.job import PeerJob, Run
from effgen.judge.memory import peak_bytes, resident_bytes
from effgen.judge.messages import Burst, Entered, Entry, Flow, Flowed, Refused, WarmUp
from effgen.judge.peers import PEERS
from effgen.judge.queues import QUEUES, Queue
from effgen.judge.timing import burst, flow, warm_up
from effgen.measure.carried.process import answers_apart, die_with
from effgen.measure.pipe import PipeClosedError, receive, send
from effgen.results.reports import OURS
from effgen.runtime import read_manifest
from effgen.runtime.manifest import MODEL
from effgen.runtime.model import load_checked


def _run_of(entry: Entry) -> Run:
    """What one call is."""
    image = golden_pair(entry.bundle)[0]
    if entry.backend == OURS:
        model = load_checked(entry.bundle, read_manifest(entry.bundle), entry.threads)
        return lambda: model(image)
    job = PeerJob(entry.bundle / MODEL, image, entry.threads, entry.streams)
    return QUEUES[entry.backend].prepare(job) if entry.backend in QUEUES else PEERS[entry.backend].prepare(job)


def enter(entry: Entry) -> tuple[Run | None, Entered | Refused]:
    """The backend set up and called once. Peers are other people's code: any exception is a reason."""
    if entry.cpus:
        os.sched_setaffinity(0, entry.cpus)
    before = resident_bytes()
    try:
        run = _run_of(entry)
        answer = run()
    except EffgenError as error:
        return None, Refused(str(error), error)
    except Exception as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        return None, Refused(f"{type(error).__name__}: {first_line}")
    peak = peak_bytes()
    memory = None if before is None or peak is None else max(0, peak - before)
    return run, Entered(answer, memory, run.streams if isinstance(run, Queue) else None)


def serve(requests: int, answers: int) -> None:
    """Answer until the other end closes the pipe."""
    run, told = enter(receive(requests))
    send(answers, told)
    while run is not None:
        send(answers, _done(run, receive(requests)))


def _done(run: Run, request: WarmUp | Burst | Flow) -> float | list[float] | Flowed:
    if isinstance(request, WarmUp):
        return warm_up(run)
    if isinstance(request, Burst):
        return burst(run, request.time_s, request.wake_s)
    flowed = run.flow if isinstance(run, Queue) else partial(flow, run)
    return Flowed(*flowed(request.time_s, request.wake_s))


def main() -> None:
    die_with(int(sys.argv[1]))
    try:
        serve(0, answers_apart())
    except PipeClosedError:
        return


if __name__ == "__main__":
    main()
