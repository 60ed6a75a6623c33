"""The process of one backend in a race: `python -m effgen.judge.contender`, started by `effgen.judge.race`.

It loads the bundle or sets a peer up, calls it once, and then runs bursts of calls when it is asked to: between them it
waits. It ends with its parent.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from effgen.errors import EffgenError
from effgen.judge.case import golden_pair
from effgen.judge.job import PeerJob, Run
from effgen.judge.memory import peak_bytes, resident_bytes
from effgen.judge.messages import Burst, Entered, Entry, Refused, Steps, WarmUp
from effgen.judge.peers import PEERS
from effgen.judge.timing import burst, warm_up
from effgen.measure.carried.process import answers_apart, die_with
from effgen.measure.pipe import PipeClosedError, receive, send
from effgen.results.reports import OURS
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


def _run_of(entry: Entry) -> Run:
    """What one call is."""
    image = golden_pair(entry.bundle)[0]
    if entry.backend == OURS:
        return _OwnRun(load_checked(entry.bundle, read_manifest(entry.bundle), entry.threads), image)
    return PEERS[entry.backend].prepare(PeerJob(entry.bundle / MODEL, image, entry.threads))


def enter(entry: Entry) -> tuple[Run | None, Entered | Refused]:
    """The backend set up and called once. Peers are other people's code: any exception is a reason."""
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
    return run, Entered(answer, memory)


def serve(requests: int, answers: int) -> None:
    """Answer until the other end closes the pipe."""
    run, told = enter(receive(requests))
    send(answers, told)
    while run is not None:
        send(answers, _done(run, receive(requests)))


def _done(run: Run, request: WarmUp | Burst | Steps) -> float | list[float] | NDArray[np.float64]:
    match request:
        case WarmUp():
            return warm_up(run)
        case Burst():
            return burst(run, request.time_s, request.wake_s)
        case Steps():
            assert isinstance(run, _OwnRun), "only a bundle of ours has steps"
            return run.steps(request)
        case _:
            assert_never(request)


def main() -> None:
    die_with(int(sys.argv[1]))
    try:
        serve(0, answers_apart())
    except PipeClosedError:
        return


if __name__ == "__main__":
    main()
