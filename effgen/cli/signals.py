"""Ctrl-C and a polite kill: everything on the stack cleans up, and the exit status says which it was."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Timer, main_thread
from types import FrameType

#: After which a finaliser has ended.
_AGAIN_S = 0.05

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@contextmanager
def received_signals() -> Iterator[list[signal.Signals]]:
    """The signals that have come since the block began; the first raises KeyboardInterrupt where the code stands.

    Those after it are only noted: an impatient second Ctrl-C must not cut the cleaning up short. The list is needed
    because compiled code on the way up turns the exception into errors of its own. Where Python itself drops it, in a
    finaliser, it is raised again a moment later. Signals that the parent process has switched off stay so.
    """
    received: list[signal.Signals] = []
    dropped, theirs = Event(), sys.unraisablehook
    timers: list[Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not dropped.is_set():
            received.append(signal.Signals(number))
        if len(received) == 1 or dropped.is_set():
            dropped.clear()
            raise KeyboardInterrupt

    def again(unraisable: sys.UnraisableHookArgs) -> None:
        if not (received and isinstance(unraisable.exc_value, KeyboardInterrupt)):
            theirs(unraisable)
            return
        dropped.set()
        # Not from here, which is a place where exceptions are dropped.
        later = Timer(_AGAIN_S, signal.pthread_kill, (main_thread().ident, received[0]))
        later.daemon = True
        later.start()
        timers.append(later)

    sys.unraisablehook = again
    before = {number: signal.getsignal(number) for number in _WORDS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield received
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = theirs
        for number, handler in before.items():
            signal.signal(number, handler)


def word_for(number: signal.Signals) -> str:
    """What a user is told."""
    return _WORDS[number]


def status_for(number: signal.Signals) -> int:
    """The exit status by the shell's convention: 130 for Ctrl-C."""
    return 128 + number
