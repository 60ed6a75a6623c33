"""The tuner's side of measuring: one worker process, given requests with a time limit, replaced when it fails.

One for each device, because two at a time would measure each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from effgen.errors import TuneError
from effgen.kernels.workload import Workload
from effgen.measure.answering import AnsweringProcess
from effgen.measure.carried.candidate import CALLS, PREPARE_LIMIT_S, Outcome, late
from effgen.measure.lanes import DeviceLostError, NoDeviceError
from effgen.measure.pipe import PipeClosedError, PipeTimeoutError
from effgen.measure.protocol import Connect, Lost, Measure, NoDevice, Prepare, Reply, Request, Setup

#: Seconds in which the worker must load TVM.
START_LIMIT_S = 120.0

#: Seconds in which a device that is free must answer.
CONNECT_LIMIT_S = 60.0

#: Seconds that a candidate may take to be built, checked and timed; slow kernels get more (`limit_for`).
CANDIDATE_LIMIT_S = 20.0


class Measurer:
    """Measures candidates for one machine. A context manager: the worker ends with the block."""

    def __init__(self, setup: Setup, candidate_limit_s: float = CANDIDATE_LIMIT_S) -> None:
        self._setup = setup
        self._candidate_limit_s = candidate_limit_s
        self._process: AnsweringProcess | None = None
        self._prepared: set[Workload] = set()
        self._stopped = False
        self.restarts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The worker's process id; None where none runs."""
        return self._process.pid if self._process else None

    def connect(self) -> None:
        """Start the worker and have a device; raises NoDeviceError, or TuneError where no worker can be started."""
        self._ready_for(None, self._candidate_limit_s)

    def measure(
        self,
        workload: Workload,
        decisions: Mapping[str, int],
        incumbent: Mapping[str, int] | None = None,
        incumbent_s: float = 0.0,
        thorough: bool = False,
    ) -> Outcome:
        """A candidate's outcome. `incumbent_s` is what a call of the incumbent takes, for the time limit.

        A worker that dies is started again and the candidate tried once more, since something else may have killed
        it: a candidate has crashed only if it did so twice. Raises TuneError where no worker can be started,
        NoDeviceError where it finds no device, DeviceLostError where a remote one went away or says nothing more:
        whether to try again is then the caller's to decide.
        """
        request = Measure(workload, decisions, incumbent, thorough)
        limit_s = self._candidate_limit_s + CALLS * incumbent_s * (4 if thorough else 1)
        outcome = self._attempt(request, limit_s)
        return self._attempt(request, limit_s) if outcome.status == "crashed" and self._process is None else outcome

    def stop(self) -> None:
        """End the worker while another thread waits for it, for good: none is started any more."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the worker, whatever it is doing."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
        self._prepared.clear()

    def _attempt(self, request: Measure, limit_s: float) -> Outcome:
        self._ready_for(request.workload, limit_s)
        try:
            answer = self._ask(request, limit_s)
        except PipeTimeoutError:
            self.close()
            self.restarts += 1
            outcome = late(limit_s)
            if self._setup.remote is not None:
                raise DeviceLostError(outcome.status, outcome.error) from None
            return outcome
        except PipeClosedError:
            error = self._how_it_died()
            self.restarts += 1
            return Outcome("crashed", error)
        except BaseException:  # Ctrl-C: an answer that nobody waits for would be taken for the next one's
            self.close()
            raise
        if isinstance(answer, Lost):
            self.close()  # what it holds of a device that is gone cannot be let go
            raise DeviceLostError("crashed", f"the device was lost: {answer.error}")
        assert isinstance(answer, Outcome), answer
        return answer

    def _ready_for(self, workload: Workload | None, limit_s: float) -> None:
        """A running worker with the workload's inputs and reference at hand, and a device for `limit_s` seconds.

        A worker that dies on the way is started once more, as in `measure`; so is one that was given a device which
        says nothing. Raises NoDeviceError, or TuneError where a worker cannot do its part.
        """
        what = "measuring" if workload is None else workload.name
        try:
            try:
                self._prepare(workload, limit_s)
            except (_SilentDeviceError, PipeClosedError) as error:
                self._how_it_died() if isinstance(error, PipeClosedError) else self.close()
                self._prepare(workload, limit_s)
        except _SilentDeviceError:
            self.close()
            remote = self._setup.remote
            assert remote is not None
            raise NoDeviceError(
                f"--rpc-key {remote.key}: two devices of the tracker {remote.tracker} do not answer; restart their "
                "servers"
            ) from None
        except PipeTimeoutError:
            self.close()
            raise TuneError(f"{what}: the measuring process does not answer; try fewer --threads") from None
        except PipeClosedError:
            how = self._how_it_died()
            raise TuneError(f"{what}: the measuring process ended before a kernel ran: {how}") from None
        except BaseException:
            self.close()
            raise

    def _prepare(self, workload: Workload | None, limit_s: float) -> None:
        if self._process is None:
            self._start()
            self._ask(self._setup, START_LIMIT_S)
        if workload is not None and workload not in self._prepared:
            self._ask(Prepare(workload), PREPARE_LIMIT_S)
            self._prepared.add(workload)
        if self._setup.remote is not None:
            self._find_device(Connect(limit_s))

    def _find_device(self, request: Connect) -> None:
        try:
            answer = self._ask(request, request.wait_s + CONNECT_LIMIT_S)
        except PipeTimeoutError:
            raise _SilentDeviceError from None
        if isinstance(answer, NoDevice):
            raise NoDeviceError(answer.error)

    def _start(self) -> None:
        # The threads of numpy's BLAS spin for a while after a product: they would be measured with the kernels.
        counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        counts["TVM_NUM_THREADS"] = str(self._setup.machine.cores)
        environment = {"TVM_BIND_THREADS": "0", **counts}
        self._process = AnsweringProcess("effgen.measure.worker", environment)
        if self._stopped:  # by another thread, which may not have seen the process
            self._process.kill()

    def _ask(self, request: Request, limit_s: float) -> Reply:
        assert self._process
        answer: Reply = self._process.ask(request, limit_s)
        return answer

    def _how_it_died(self) -> str:
        """End what is left of a worker whose pipe is closed, and say how it ended."""
        assert self._process
        how = self._process.how_it_died()
        self.close()
        return how


class _SilentDeviceError(Exception):
    """A device was found, and says nothing."""
