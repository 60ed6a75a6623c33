"""What C++ writes to standard error behind Python's back: kept, so that users read our words only."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_STANDARD_ERROR = 2

#: The descriptor is the whole process's: one window at a time moves it.
_ONE_WINDOW = threading.Lock()


class Captured:
    """The text that was captured, once the window is closed."""

    text = ""

    @property
    def lines(self) -> list[str]:
        """Those that say something."""
        return [line.strip() for line in self.text.splitlines() if line.strip()]


@contextmanager
def captured_standard_error() -> Iterator[Captured]:
    """A window in which what C++ writes to descriptor 2 is captured, while `sys.stderr` goes on to where it went.

    Inside another window, of this thread or of another, and where descriptor 2 is closed, nothing is captured.
    """
    captured = Captured()
    if not _ONE_WINDOW.acquire(blocking=False):
        yield captured
        return
    try:
        yield from _window(captured)
    finally:
        _ONE_WINDOW.release()


def _window(captured: Captured) -> Iterator[Captured]:
    try:
        outside = os.dup(_STANDARD_ERROR)
    except OSError:  # closed: nobody would have read it
        yield captured
        return
    # In memory: a full disk must not stand in the way of hearing that it is full.
    with (
        os.fdopen(os.memfd_create("effgen"), "w+b") as kept,
        os.fdopen(outside, "w", buffering=1, errors="backslashreplace") as ours,
    ):
        theirs = sys.stderr
        _flush(theirs)
        os.dup2(kept.fileno(), _STANDARD_ERROR)
        if _writes_to_descriptor(theirs):
            sys.stderr = ours
        try:
            yield captured
        finally:
            if sys.stderr is ours:
                sys.stderr = theirs
            _flush(ours)
            os.dup2(outside, _STANDARD_ERROR)
            kept.seek(0)
            captured.text = kept.read().decode(errors="replace")


def _writes_to_descriptor(stream: TextIO | None) -> bool:
    """Whether it is standard error itself, and not what a test or a notebook put in its place. A spinner's stand-in
    (rich's) names the stream that it stands for."""
    stream = getattr(stream, "rich_proxied_file", stream)
    try:
        return stream is not None and stream.fileno() == _STANDARD_ERROR
    except (OSError, ValueError, AttributeError):
        return False


def _flush(stream: TextIO | None) -> None:
    if stream is not None and not stream.closed:
        stream.flush()
