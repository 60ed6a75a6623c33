"""The process that builds and runs candidates: `python -m effgen.measure.worker`, started by `effgen.measure.measurer`.

A candidate may crash it or never return; that costs this process, not the tuner. It reads requests from standard
input and answers on what was its standard output; it ends with its parent, however that ends.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from effgen.errors import TuneError
from effgen.kernels.workload import Workload
from effgen.measure.carried.candidate import Bench, Outcome, error_text, measured
from effgen.measure.carried.process import answers_apart, die_with
from effgen.measure.carried.timing import alone, compare
from effgen.measure.pipe import PipeClosedError, receive, send
from effgen.measure.protocol import Connect, Lost, Measure, NoDevice, Prepare, Reply, Setup
from effgen.runtime.library import prepare_tvm

if TYPE_CHECKING:
    from effgen.measure.carried.timing import Side, Timing


class Workbench(Bench, Protocol):
    """One workload's candidates at a place."""

    def kernel(self, decisions: Mapping[str, int]) -> Any:
        """The candidate, ready to run; raises whatever building it raises."""


class MeasuringPlace(Protocol):
    """Where kernels run: this machine, or a device behind a tracker. `burst_s`: seconds of one burst of calls."""

    device: str
    burst_s: float

    def connect(self, request: Connect) -> None:
        """Have the device for as long as is asked for; raises TuneError."""

    def prepare(self, workload: Workload) -> None:
        """Make the inputs and the reference."""

    def bench(self, workload: Workload) -> Workbench:
        """What measures this workload's candidates."""

    def lost(self) -> bool:
        """Whether the device is gone."""


class Session:
    """Answers requests about one machine. Made after the environment is ready: it loads TVM."""

    def __init__(self, setup: Setup) -> None:
        prepare_tvm()
        self.place: MeasuringPlace
        if setup.remote is None:
            from effgen.measure.kernels import Here

            self.place = Here(setup)
        else:
            from effgen.measure.remote import There

            self.place = There(setup, setup.remote)

    def answer(self, request: Connect | Prepare | Measure) -> Reply:
        """Do what is asked for; a candidate that cannot be built or is wrong is an answer, not an exception."""
        if isinstance(request, Connect):
            return self._connect(request)
        if isinstance(request, Prepare):
            self.place.prepare(request.workload)
            return Outcome("ok")
        try:
            outcome = self._measure(request)
        except Exception as error:  # the incumbent, which worked before
            if self.place.lost():
                return Lost(error_text(error))
            raise
        if outcome.status in ("build_error", "crashed") and self.place.lost():
            return Lost(outcome.error)
        return dataclasses.replace(outcome, device=self.place.device)

    def _connect(self, request: Connect) -> Reply:
        try:
            self.place.connect(request)
        except TuneError as error:
            return NoDevice(str(error))
        return Outcome("ok")

    def _measure(self, request: Measure) -> Outcome:
        from effgen.measure.case import TOLERANCE

        bench = self.place.bench(request.workload)
        incumbent = None if request.incumbent is None else bench.side(bench.kernel(request.incumbent))
        try:
            kernel = bench.kernel(request.decisions)
        except Exception as error:
            return Outcome("build_error", error_text(error))

        def time(side: Side) -> Timing:
            if incumbent is None:
                return alone(side, self.place.burst_s)
            return compare(side, incumbent, request.thorough, self.place.burst_s)

        return measured(bench, kernel, TOLERANCE, time, refused=Exception)  # TVM raises anything


def serve(requests: int, answers: int) -> None:
    """Answer until the other end closes the pipe."""
    try:
        setup = receive(requests)
        session = Session(setup)
        send(answers, Outcome("ok"))
        while True:
            send(answers, session.answer(receive(requests)))
    except PipeClosedError:
        return


def main() -> None:
    die_with(int(sys.argv[1]))
    serve(0, answers_apart())


if __name__ == "__main__":
    main()
