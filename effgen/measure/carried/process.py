"""The process that runs candidates: it ends with its parent, says nothing but answers, and is told how it ended.

A copy of this file goes with every folder: it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import IO

from effgen.errors import last_line

_PR_SET_PDEATHSIG = 1
_LONGEST_WORDS = 200


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone, which it may be already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def answers_apart() -> int:
    """A descriptor of what was standard output; whatever else writes there goes to standard error from now on."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def how_it_ended(status: int, stderr: IO[bytes]) -> str:
    """A process's signal or exit status, and its last words."""
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    words = last_words(stderr)
    return f"{how}: {words}" if words else how


def last_words(stderr: IO[bytes]) -> str:
    """The end of what a process wrote to its standard error."""
    stderr.seek(0)
    return last_line(stderr.read().decode(errors="replace"))[:_LONGEST_WORDS]
