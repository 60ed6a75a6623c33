"""What a race asks the processes of its backends, what those ask a converter, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effgen.errors import EffgenError
from effgen.judge.job import PeerJob
from effgen.runtime.answers import Answer


@dataclass(frozen=True)
class Entry:
    """The first request: the backend, `OURS`, a peer's name or a queue's, with the bundle whose network all run, and
    the CPUs that it is held to, none: as its parent is. `streams`: how many a queue is to have, None: its choice."""

    backend: str
    bundle: Path
    threads: int
    cpus: tuple[int, ...] = ()
    streams: int | None = None


@dataclass(frozen=True)
class Conversion:
    """Write into `folder` what `peer` makes of the job's model; the answer is None, or a `Refused`."""

    peer: str
    job: PeerJob
    folder: Path


@dataclass(frozen=True)
class WarmUp:
    """Call until times settle; the answer is the last window's median, seconds."""


@dataclass(frozen=True)
class Burst:
    """Time calls until they add up to `time_s`, after `wake_s` of uncounted ones; the answer is their seconds."""

    time_s: float
    wake_s: float


@dataclass(frozen=True)
class Steps:
    """As `Burst`, with a clock between the steps of the bundle's network; the answer is an array `(calls, steps)`."""

    time_s: float
    wake_s: float


@dataclass(frozen=True)
class Flow:
    """Run calls beside other processes that do the same, as `Burst` says; the answer is a `Flowed`."""

    time_s: float
    wake_s: float


@dataclass(frozen=True)
class Flowed:
    """Calls, and the seconds that they took together."""

    calls: int
    seconds: float


@dataclass(frozen=True)
class Entered:
    """What it computed of the golden image, and the most memory that loading and calling it took beyond what a Python
    with NumPy takes, bytes; None where the system does not tell. `streams`: how many a queue has."""

    answer: Answer
    memory: int | None
    streams: int | None = None


@dataclass(frozen=True)
class Refused:
    """Why it cannot run: `error` is one that effgen raises of its own, None of other people's code."""

    reason: str
    error: EffgenError | None = None


def refusal(error: Exception) -> Refused:
    """Of an exception: peers are other people's code, and may raise any."""
    if isinstance(error, EffgenError):
        return Refused(str(error), error)
    first_line = (str(error).strip() or "no message").splitlines()[0]
    return Refused(f"{type(error).__name__}: {first_line}")
