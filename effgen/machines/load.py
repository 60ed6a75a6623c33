"""Work that a measurement has beside it on purpose: what the machine is like when others use it too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from effgen.machines.programs import guarded

_BUSY = "while True: pass"


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """`count` processes that do nothing but count, each as fast as one CPU lets it, until the block ends; they end with
    this process, too."""
    command = guarded([sys.executable, "-I", "-S", "-c", _BUSY])
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen(command))
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
