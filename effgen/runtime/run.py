"""Classifying many pictures with a bundle: in turn, or several at once where only the sum of them counts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from effgen.errors import ImageError
from effgen.machines.processor import usable_cpus
from effgen.runtime import LoadedModel, Prediction, load
from effgen.runtime.cuda import CudaModel
from effgen.runtime.labels import read_labels
from effgen.runtime.sources import PictureSource, sources_from_arguments
from effgen.words import OutputKind

#: Groups of pictures that each stream has waiting, so that none idles while results are printed.
_AHEAD = 2


@dataclass(frozen=True)
class RunRequest:
    """What `effgen run` was asked for. `images`: files, folders, "-"; `labels` None: the bundle's; `threads` None: what
    the bundle was compiled for; `throughput`: that many streams of one thread instead of one of that many."""

    bundle: Path
    images: tuple[str, ...]
    top: int = 5
    labels: Path | None = None
    threads: int | None = None
    throughput: bool = False


@dataclass(frozen=True)
class Answer:
    """What the model says of a picture, the likeliest class first; or why it cannot."""

    image: str
    predictions: tuple[Prediction, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class RunReport:
    """The answers in the order of the pictures; `output`: what the network's numbers are. Seconds: of the whole, and
    summed over all streams of reading and preparing pictures and of running the network."""

    bundle: str
    model: str
    output: OutputKind
    batch: int
    streams: int
    threads: int
    answers: tuple[Answer, ...]
    wall_s: float
    prepare_s: float
    inference_s: float

    @property
    def errors(self) -> list[str]:
        """Of the pictures and folders that could not be read."""
        return [answer.error for answer in self.answers if answer.error is not None]

    @property
    def images_per_s(self) -> float:
        """Pictures classified in a second of the whole."""
        return (len(self.answers) - len(self.errors)) / self.wall_s


@dataclass(frozen=True)
class _Group:
    """The answers to one call of the network, and its seconds."""

    answers: list[Answer]
    prepare_s: float
    inference_s: float


def run_bundle(request: RunRequest, on_answer: Callable[[Answer], None] = lambda answer: None) -> RunReport:
    """Classify the pictures; `on_answer` is told each answer as soon as those before it are there.

    A picture or a folder that cannot be read has its error in its answer and stops nothing. Raises ImageError where
    there are no pictures or the labels do not fit, BundleError where the bundle cannot be loaded, it is no
    classifier, or its output is no answer.
    """
    sources = sources_from_arguments(request.images)
    model = load(request.bundle, request.threads)
    model.refuse_others()
    if request.labels is not None:
        model.labels = read_labels(request.labels, model.classes)
    streams = _Streams(model, request.throughput, request.top)
    batch = model.manifest.input["shape"][0]
    groups = [sources[start : start + batch] for start in range(0, len(sources), batch)]
    done: list[_Group] = []
    start = time.perf_counter()
    for group in streams.run(groups):
        done.append(group)
        for answer in group.answers:
            on_answer(answer)
    return RunReport(
        bundle=str(request.bundle),
        model=model.manifest.name,
        output=model.manifest.output_kind,
        batch=batch,
        streams=streams.count,
        threads=streams.threads,
        answers=tuple(answer for group in done for answer in group.answers),
        wall_s=time.perf_counter() - start,
        prepare_s=sum(group.prepare_s for group in done),
        inference_s=sum(group.inference_s for group in done),
    )


class _Streams:
    """Models that share code and weights, each in one thread at a time; the others read and prepare meanwhile.

    The library's calls and Pillow's work let go of Python's lock: threads of one process are enough.
    """

    def __init__(self, model: LoadedModel | CudaModel, throughput: bool, top: int) -> None:
        self._top = top
        self._preparation = model.preparation  # says at once where pictures cannot be prepared
        self.count, self.threads = 1, model.threads
        models: list[LoadedModel | CudaModel] = [model]
        if throughput and isinstance(model, LoadedModel):
            self.count, self.threads = model.threads, 1
            models = [model.twin(threads=1) for _ in range(self.count)]
        elif throughput:  # the GPU has one stream; the CPUs read for it
            self.count = len(usable_cpus())
            models = [model] * self.count
        self._idle: SimpleQueue[LoadedModel | CudaModel] = SimpleQueue()
        for idle in models:
            self._idle.put(idle)

    def run(self, groups: Sequence[Sequence[PictureSource]]) -> Iterator[_Group]:
        """The groups' answers, in order."""
        if self.count == 1:
            yield from map(self._run_group, groups)
            return
        pool = ThreadPoolExecutor(self.count)
        waiting: deque[Future[_Group]] = deque()
        try:
            for group in groups:
                waiting.append(pool.submit(self._run_group, group))
                if len(waiting) > self.count * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an error or Ctrl-C: what has not begun never does
            pool.shutdown(cancel_futures=True)

    def _run_group(self, group: Sequence[PictureSource]) -> _Group:
        start = time.perf_counter()
        images, errors = [], {}
        for source in group:
            try:
                if isinstance(source.picture, ImageError):
                    raise source.picture
                images.append(self._preparation(source.picture))
            except ImageError as error:
                errors[source] = str(error)
        prepared = time.perf_counter()
        predictions = iter(self._predict(images) if images else [])
        inferred = time.perf_counter()
        answers = [
            Answer(source.name, error=errors[source])
            if source in errors
            else Answer(source.name, tuple(next(predictions)))
            for source in group
        ]
        return _Group(answers, prepared - start, inferred - prepared)

    def _predict(self, images: list[NDArray[np.float32]]) -> list[list[Prediction]]:
        model = self._idle.get()
        try:
            return model.predictions(model.batch_of(images), len(images), self._top)
        finally:
            self._idle.put(model)
