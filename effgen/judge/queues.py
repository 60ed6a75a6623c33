"""Peers that keep several calls under way in one process, which is how they like to be run for images a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from effgen.judge.job import PeerJob
from effgen.judge.peers import openvino_settings
from effgen.judge.timing import burst
from effgen.runtime.answers import Answer, answer_of


@runtime_checkable
class Queue(Protocol):
    """Calls that are shared out in `streams`."""

    streams: int

    def __call__(self) -> Answer:
        """One call, waited for."""

    def flow(self, time_s: float, wake_s: float) -> tuple[int, float]:
        """How many calls came to an end in about `time_s` seconds, all streams at work, and those seconds; `wake_s` of
        uncounted ones before. None is under way then."""


class OpenvinoQueue:
    """OpenVINO's queue of requests, as many as it likes. Nobody reads their answers, which favours it a little."""

    def __init__(self, job: PeerJob) -> None:
        import openvino

        streams = {} if job.streams is None else {"NUM_STREAMS": str(job.streams)}
        core = openvino.Core()
        settings = {**openvino_settings("THROUGHPUT", job.threads), **streams}
        compiled: Any = core.compile_model(core.read_model(job.model), "CPU", settings)
        self.streams = int(compiled.get_property("NUM_STREAMS"))
        self._image, self._outputs = job.image, compiled.outputs
        self._request = compiled.create_infer_request()
        self._queue = openvino.AsyncInferQueue(compiled)

    def __call__(self) -> Answer:
        found = self._request.infer([self._image], share_inputs=True, share_outputs=True)
        return answer_of([found[output] for output in self._outputs])

    def flow(self, time_s: float, wake_s: float) -> tuple[int, float]:
        # Once it is full, a call can begin when another ends: they are as many.
        for _ in range(len(self._queue)):
            self._begin()
        samples = burst(self._begin, time_s, wake_s)
        self._queue.wait_all()
        return len(samples), sum(samples)

    def _begin(self) -> None:
        self._queue.start_async([self._image], share_inputs=True)


@dataclass(frozen=True)
class QueueForm:
    """A queue: the peer whose it is, whether it is told how many streams to have, and how to set it up."""

    peer: str
    told: bool
    prepare: Callable[[PeerJob], Queue]


#: By the name of its row.
QUEUES: Mapping[str, QueueForm] = {
    "openvino throughput": QueueForm("openvino", False, OpenvinoQueue),
    "openvino streams": QueueForm("openvino", True, OpenvinoQueue),
}
