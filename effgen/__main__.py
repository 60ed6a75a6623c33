"""`python -m effgen`, and the script `effgen`: the command line, its first moments too.

Loading the command line takes half a second, in which a Ctrl-C comes nowhere: until `effgen.cli` takes over, and after
it has let go, it ends the process at once, in one line. There is nothing to clean up then.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from types import FrameType

_STANDARD_ERROR = 2


def main() -> None:
    """Entry point; see `effgen.cli.main`."""
    try:
        if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            _watch_a_copy()
        from effgen.cli import main as command
    except (OSError, ImportError, MemoryError) as error:
        from effgen.files.exhausted import exhaustion

        if missing := exhaustion(error):
            _say(f"error: {missing}")
            os._exit(1)
        raise
    command()


def _watch_a_copy() -> None:
    """Go on in a copy of this process. TVM, LLVM and PyTorch end a process that gets no memory: this one then says so
    in a line, and ends as the copy did."""
    from effgen.measure.carried.process import die_with

    parent, copy = os.getpid(), os.fork()
    if not copy:
        die_with(parent)
        return

    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(copy, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    if status >= 0:
        os._exit(status)
    if -status not in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        _say(
            f"error: ended by {signal.Signals(-status).name}: memory is limited to "
            f"{resource.getrlimit(resource.RLIMIT_AS)[0] >> 20} MiB; raise the limit (ulimit -v)"
        )
        os._exit(1)
    os._exit(128 - status)


def _stop(number: int, frame: FrameType | None) -> None:
    _say("interrupted")
    os._exit(128 + number)


def _say(line: str) -> None:
    with suppress(OSError):  # nobody can be told
        os.write(_STANDARD_ERROR, f"{line}\n".encode())


def _open_what_is_closed() -> None:
    """Nothing in place of standard streams that the caller has closed (`>&-`): else the next file that is opened would
    have their number, and what C++ prints would go there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


_open_what_is_closed()
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)

if __name__ == "__main__":
    main()
