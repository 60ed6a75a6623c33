"""Memory of this process and of those that it starts, as Linux counts it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_FORGET_PEAK = "5"

#: Seconds between two looks at the processes that were started.
_LOOK_EVERY_S = 0.02


def resident_bytes() -> int | None:
    """Memory that this process has now, other processes' share of it included; the peak is counted from here on. None
    where the system does not tell."""
    with suppress(OSError):
        (_PROC / "self/clear_refs").write_text(_FORGET_PEAK)
    return _status("self", "VmRSS")


def peak_bytes() -> int | None:
    """The most memory since `resident_bytes`; None where the system does not tell."""
    return _status("self", "VmHWM")


@dataclass
class Memory:
    """The most that was taken beyond what there was at the beginning, bytes; None until the end, and where the system
    does not tell. `seen`: the most so far of all looks at this process beside others."""

    bytes: int | None = None
    seen: int = 0


@contextmanager
def watched_memory() -> Iterator[Memory]:
    """How much memory the block takes at most, this process and all that it starts together.

    This process's own peak is the kernel's. For the moments in which others run beside it all are looked at again and
    again: what is taken and given back between two looks is missed. (What Linux tells a parent of its children's peaks
    has the parent's own in it: they begin as copies of it.)
    """
    before, memory, ended = resident_bytes(), Memory(), threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            if started := _started_by(os.getpid()):
                now = sum(_status(str(pid), "VmRSS") or 0 for pid in (os.getpid(), *started))
                memory.seen = max(memory.seen, now - (before or 0))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield memory
    finally:
        ended.set()
        watcher.join()
        peak = peak_bytes()
        if before is not None and peak is not None:
            memory.bytes = max(0, peak - before, memory.seen)


def _started_by(pid: int) -> list[int]:
    """The programs below a process, at any depth. Linux lists each by the thread that started it."""
    found: list[int] = []
    with suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                found += [int(word) for word in (task / "children").read_text().split()]
    # One that is about to become another program is its parent still, memory included.
    found = [child for child in found if _words(child) != _words(pid)]
    return found + [below for child in found for below in _started_by(child)]


def _words(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _status(process: str, key: str) -> int | None:
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB$", (_PROC / process / "status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
