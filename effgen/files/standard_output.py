"""Standard output that cannot be written, a full disk or a closed pipe: an error of the user's, in one line."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from effgen.errors import EffgenError

_STANDARD_OUTPUT = 1


@contextmanager
def checked_standard_output() -> Iterator[None]:
    """A block in which a write to standard output that fails raises EffgenError; what is left unwritten then is not
    tried again. All is written when it ends well.

    Where `sys.stdout` is something else, a test's or a notebook's, or closed, nothing is changed.
    """
    theirs = sys.stdout
    if not _is_descriptor(theirs):
        yield
        return
    theirs.flush()
    raw = _Raw(_STANDARD_OUTPUT, "w", closefd=False)
    ours = io.TextIOWrapper(
        io.BufferedWriter(raw), theirs.encoding, theirs.errors, line_buffering=bool(theirs.line_buffering)
    )
    sys.stdout = ours
    try:
        yield
    finally:
        sys.stdout = theirs
        ours.flush()


class _Raw(io.FileIO):
    """The descriptor; once a write has failed, the rest goes nowhere."""

    failed = False

    def write(self, data: Any) -> int:
        if self.failed:
            return len(data)
        try:
            return super().write(data) or 0
        except BrokenPipeError:  # a reader that has seen enough, `head` say, is told nothing
            self.failed = True
            raise
        except OSError as error:
            self.failed = True
            raise EffgenError(f"standard output: {error.strerror}; nothing more was written") from None


def _is_descriptor(stream: Any) -> bool:
    try:
        return stream is not None and stream.fileno() == _STANDARD_OUTPUT
    except (OSError, ValueError, AttributeError):
        return False
