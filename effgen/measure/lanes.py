"""Measurers that work side by side, each for a device of its own, on the jobs that a tuner hands out.

Handing out and taking back are under one lock, measuring is not. A device that is lost in the middle of a job is no
fault of the candidate: the job is done again by whoever is free, and only a candidate that loses two devices has
crashed, or never ends. Nothing is told to the tuner about an attempt that is made again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from effgen.errors import TuneError
from effgen.kernels.workload import Workload
from effgen.measure.carried.candidate import ATTEMPTS, Outcome
from effgen.records.record import Status

#: Seconds that a lane may take to end once its measurer was stopped.
_JOIN_S = 30.0

#: Seconds until a job that is to come later is asked for again.
_LATER_S = 0.2


class DeviceLostError(Exception):
    """A device, or the session with it, is gone; `status` is what the candidate gets that does so again."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status: Status = status


class NoDeviceError(TuneError):
    """No device can be had."""


class Measures(Protocol):
    """What the tuner needs of `effgen.measure.measurer.Measurer`."""

    def connect(self) -> None:
        """Be ready; raises NoDeviceError where no device can be had."""

    def measure(
        self,
        workload: Workload,
        decisions: Mapping[str, int],
        incumbent: Mapping[str, int] | None = None,
        incumbent_s: float = 0.0,
        thorough: bool = False,
    ) -> Outcome:
        """A candidate's outcome; raises DeviceLostError or NoDeviceError."""

    def stop(self) -> None:
        """End what another thread waits for in `connect` or `measure`, and whatever it asks for later."""


@dataclass(frozen=True)
class Job:
    """One candidate to measure, `tag` says what for. Of one kernel there is one job at a time."""

    tag: str
    workload: Workload
    decisions: Mapping[str, int]
    incumbent: Mapping[str, int] | None = None
    incumbent_s: float = 0.0
    thorough: bool = False


class Later(Enum):
    """There is none now, and there may be one in a while, whatever the other lanes do."""

    LATER = "later"


LATER = Later.LATER

#: The next job for the lane of this number, None where there is none now; and what became of a job.
NextJob = Callable[[int], Job | Later | None]
OnDone = Callable[[Job, Outcome], None]


class Lanes:
    """Runs jobs until none is left, one at a time on each measurer; with one measurer, in the caller's thread."""

    def __init__(self, measurers: Sequence[Measures], next_job: NextJob, done: OnDone) -> None:
        self._measurers = measurers
        self._next_job, self._done = next_job, done
        self._changed = threading.Condition()
        self._again: deque[tuple[Job, int]] = deque()
        self._under_way = 0
        self._alive = len(measurers)
        self._ended = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """Returns when no job is left; raises what `next_job`, `done` or a measurer raised.

        Whatever ends it, the other lanes' jobs that are under way are given up: they are not told to `done`. One lane
        without a device leaves its jobs to the others; the last one's NoDeviceError is raised.
        """
        if len(self._measurers) == 1:
            self._work(0)
        else:
            self._run_threads()
        if self._error is not None:
            raise self._error

    def _run_threads(self) -> None:
        threads = [threading.Thread(target=self._work, args=(lane,), daemon=True) for lane in range(self._alive)]
        for thread in threads:
            thread.start()
        try:
            with self._changed:
                while not self._ended and self._alive:
                    self._changed.wait(0.5)  # not for ever: a signal's handler runs between two waits
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            for measurer, thread in zip(self._measurers, threads, strict=True):
                if thread.is_alive():
                    measurer.stop()
            for thread in threads:
                thread.join(_JOIN_S)

    def _work(self, lane: int) -> None:
        """One lane, until nothing is left or it has no device."""
        try:
            while (taken := self._take(lane)) is not None:
                self._measure(lane, *taken)
        except BaseException as error:
            self._leave(error)
        else:
            self._leave(None)

    def _leave(self, error: BaseException | None) -> None:
        with self._changed:
            self._alive -= 1
            others_go_on = isinstance(error, NoDeviceError) and self._alive > 0
            if error is not None and not others_go_on and not self._ended:
                self._error, self._ended = error, True
            self._changed.notify_all()

    def _take(self, lane: int) -> tuple[Job, int] | None:
        """A job and which attempt at it this is; waits while other lanes may make new ones. None: all is done."""
        with self._changed:
            while not self._ended:
                taken = self._again.popleft() if self._again else self._new_one(lane)
                if taken is LATER:
                    self._changed.wait(_LATER_S)
                    continue
                if taken is not None:
                    self._under_way += 1
                    return taken
                if not self._under_way:
                    self._ended = True
                    self._changed.notify_all()
                else:
                    self._changed.wait()
            return None

    def _new_one(self, lane: int) -> tuple[Job, int] | Later | None:
        job = self._next_job(lane)
        return job if job is None or job is LATER else (job, 1)

    def _measure(self, lane: int, job: Job, attempt: int) -> None:
        measurer = self._measurers[lane]
        try:
            outcome = measurer.measure(
                job.workload, job.decisions, job.incumbent, job.incumbent_s, thorough=job.thorough
            )
        except NoDeviceError:
            self._put_back(job, attempt)
            raise
        except DeviceLostError as lost:
            if attempt < ATTEMPTS:
                self._put_back(job, attempt + 1)
            else:
                self._finish(job, Outcome(lost.status, str(lost)))
            measurer.connect()
        else:
            self._finish(job, outcome)

    def _put_back(self, job: Job, attempt: int) -> None:
        with self._changed:
            self._under_way -= 1
            self._again.append((job, attempt))
            self._changed.notify_all()

    def _finish(self, job: Job, outcome: Outcome) -> None:
        with self._changed:
            if not self._ended:
                self._done(job, outcome)
            self._under_way -= 1
            self._changed.notify_all()
