"""The process that builds and runs candidates: `python -m effgen.measure.worker`, started by `effgen.measure.pool`.

A candidate may crash it or never return; that costs this process, not the tuner. It reads requests from standard
input and answers on what was its standard output; it ends with its parent, however that ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from effgen.measure import protocol
from effgen.measure.protocol import Measure, Outcome, Prepare, Setup
from effgen.runtime.library import prepare_tvm

_PR_SET_PDEATHSIG = 1
#: An error's text in a record: enough to see what it was.
_LONGEST_ERROR = 300


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone, which it may be already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


class Session:
    """Answers requests about one machine. Made after the environment is ready: it loads TVM."""

    def __init__(self, setup: Setup) -> None:
        prepare_tvm()
        from effgen.measure.kernels import Benches, CacheFlush

        self.benches = Benches(setup.machine, protocol.provider_from_name(setup.provider))
        self.between = CacheFlush(setup.machine) if setup.cold else lambda: None

    def answer(self, request: Prepare | Measure) -> Outcome:
        """Do what is asked for; a candidate that cannot be built or is wrong is an answer, not an exception."""
        if isinstance(request, Prepare):
            self.benches.bench(request.workload)
            return Outcome("ok")
        return self._measure(request)

    def _measure(self, request: Measure) -> Outcome:
        from effgen.measure.kernels import TOLERANCE
        from effgen.measure.timing import alone, compare

        bench = self.benches.bench(request.workload)
        incumbent = None if request.incumbent is None else bench.run(bench.kernel(request.incumbent))
        try:
            kernel = bench.kernel(request.decisions)
        except Exception as error:  # TVM raises anything
            return Outcome("build_error", _text(error))
        try:
            before = bench.error_after(kernel)
            if not before <= TOLERANCE:
                return Outcome("wrong", f"relative L2 error {before:.2e}")
            run = bench.run(kernel)
            timing = (
                alone(run, self.between)
                if incumbent is None
                else compare(run, incumbent, self.between, request.thorough)
            )
            # Once more: threads that write where others read are right most of the time.
            after = bench.error_after(kernel)
        except Exception as error:  # a kernel refuses its arguments, say
            return Outcome("crashed", _text(error))
        if not after <= TOLERANCE:
            return Outcome("wrong", f"relative L2 error {after:.2e} after {before:.2e} before")
        return Outcome("ok", timing=timing)


def serve(requests: int, answers: int) -> None:
    """Answer until the other end closes the pipe."""
    try:
        setup = protocol.receive(requests)
        session = Session(setup)
        protocol.send(answers, Outcome("ok"))
        while True:
            protocol.send(answers, session.answer(protocol.receive(requests)))
    except protocol.PipeClosedError:
        return


def _text(error: Exception) -> str:
    """The error's kind and the last line of it that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"[:_LONGEST_ERROR]


def main() -> None:
    die_with(int(sys.argv[1]))
    # Whatever else writes to standard output must not get between the answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    serve(0, answers)


if __name__ == "__main__":
    main()
