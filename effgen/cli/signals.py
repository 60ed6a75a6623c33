"""Ctrl-C and a polite kill: everything on the stack cleans up, and the exit status says which it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@contextmanager
def received_signals() -> Iterator[list[signal.Signals]]:
    """The signals that have come since the block began; the first raises KeyboardInterrupt where the code stands.

    Those after it are only noted: an impatient second Ctrl-C must not cut the cleaning up short. The list is needed
    because compiled code on the way up turns the exception into errors of its own. Signals that the parent process
    has switched off stay so.
    """
    received: list[signal.Signals] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        if len(received) == 1:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _WORDS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def word_for(number: signal.Signals) -> str:
    """What a user is told."""
    return _WORDS[number]


def status_for(number: signal.Signals) -> int:
    """The exit status by the shell's convention: 130 for Ctrl-C."""
    return 128 + number
