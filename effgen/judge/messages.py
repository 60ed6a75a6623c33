"""What a race asks the processes of its backends, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effgen.errors import EffgenError
from effgen.runtime.answers import Answer


@dataclass(frozen=True)
class Entry:
    """The first request: the backend, `OURS` or a peer's name, with the bundle whose network all run."""

    backend: str
    bundle: Path
    threads: int


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
class Entered:
    """What it computed of the golden image, and the most memory that loading and calling it took beyond what a Python
    with NumPy takes, bytes; None where the system does not tell."""

    answer: Answer
    memory: int | None


@dataclass(frozen=True)
class Refused:
    """Why it cannot run: `error` is one that effgen raises of its own, None of other people's code."""

    reason: str
    error: EffgenError | None = None
