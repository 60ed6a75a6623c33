"""Runs another program that ends with effgen: `python -I -S guard.py PARENT COMMAND...`, for `programs.run_program`.

A compiler, a build or an emulator that effgen started would go on when effgen is killed, and so would what they have
started in turn. This process is told by the kernel when its parent is gone, and then kills the command's whole group.
It uses nothing but the standard library, and ends as the command did.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: A shell's status of a command that is not there.
_NOT_FOUND = 127


def _told_of_the_end_of(parent: int, number: int) -> bool:
    """Have this signal sent here when `parent` ends; False where it has already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def main(parent: int, command: list[str]) -> int:
    """Run it to its end, or to this process's."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until there is something to kill
    if not _told_of_the_end_of(parent, signal.SIGTERM):
        return 1
    mine = os.getpid()

    def in_child() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        if not _told_of_the_end_of(mine, signal.SIGKILL):
            os._exit(1)

    try:  # this process has one thread: what is done between fork and exec is safe
        process = subprocess.Popen(command, process_group=0, preexec_fn=in_child)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return _NOT_FOUND

    def end(number: int, frame: FrameType | None) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        os._exit(128 + number)

    for number in _ENDING:
        signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    return process.wait()


def end_as(status: int) -> None:
    """End with the status, or by the signal, that another process has ended by."""
    if status >= 0:
        raise SystemExit(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the other one's core tells more
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


if __name__ == "__main__":
    end_as(main(int(sys.argv[1]), sys.argv[2:]))
