"""One candidate, checked and timed: by the same rule in a worker's process, through RPC and in a folder elsewhere.

A copy of this file goes with every folder: it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from effgen.errors import last_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from effgen.measure.carried.timing import Side, Timing
    from effgen.records.record import Status


#: Seconds in which the inputs of a kernel, and what it must make of them, must be ready.
PREPARE_LIMIT_S = 300.0

#: So many calls of the incumbent must fit into a candidate's time.
CALLS = 400

#: Processes, or devices, that a candidate may cost before that is its own fault: something else may have ended one.
ATTEMPTS = 2

#: An error's text in a record or a result: enough to see what it was.
LONGEST_ERROR = 300


class Bench(Protocol):
    """One kernel with its inputs and what it must make of them; what a candidate is, the bench knows."""

    def side(self, kernel: Any) -> Side:
        """The candidate to be timed, with cold caches."""

    def error_after(self, kernel: Any) -> float:
        """Relative L2 error of a call, the worst of the outputs; they are NaN before it, lest one be left out."""


class NativeError(Exception):
    """TVM refused; the text is its own."""


@dataclass(frozen=True)
class Outcome:
    """What became of a request: `timing` where a measurement's status is ok, else `error` says what happened.

    `device` is what the machine that measured calls itself.
    """

    status: Status
    error: str = ""
    timing: Timing | None = None
    device: str = ""


def measured(
    bench: Bench, kernel: Any, tolerance: float, time: Callable[[Side], Timing], refused: type[Exception]
) -> Outcome:
    """A built candidate, called, timed by `time` and called again; `refused` is what a kernel raises that fails."""
    try:
        before = bench.error_after(kernel)
        if not before <= tolerance:
            return Outcome("wrong", f"relative L2 error {before:.2e}")
        timing = time(bench.side(kernel))
        # Once more: threads that write where others read are right most of the time.
        after = bench.error_after(kernel)
    except refused as error:
        return Outcome("crashed", error_text(error))
    if not after <= tolerance:
        return Outcome("wrong", f"relative L2 error {after:.2e} after {before:.2e} before")
    return Outcome("ok", timing=timing)


def late(limit_s: float) -> Outcome:
    """A candidate that gave no result within `limit_s` seconds."""
    return Outcome("timeout", f"no result within {limit_s:.0f} s")


def error_text(error: Exception) -> str:
    """The error's kind and the last line of it that says something; what TVM said itself has a kind."""
    kind = "" if isinstance(error, NativeError) else f"{type(error).__name__}: "
    return f"{kind}{last_line(str(error)) or 'no message'}"[:LONGEST_ERROR]
