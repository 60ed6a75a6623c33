"""A tracker and servers of TVM's RPC on loopback, as `effgen device` starts them, for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from effgen.errors import TuneError
from effgen.measure.protocol import Remote
from effgen.measure.tracker import servers_of

KEY = "toy"
_MAIN = "from effgen.cli import main; main()"


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Park:
    """A tracker and its servers, each in a process group of its own."""

    remote: Remote = field(default_factory=lambda: Remote("127.0.0.1", free_port(), KEY))
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`effgen device WORDS`, ready when this returns."""
        command = [sys.executable, "-c", _MAIN, "device", *words]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.processes.append(process)
        assert process.stderr
        for line in process.stderr:
            if " on 127.0.0.1:" in line:
                return process
        raise AssertionError(f"{words} did not start")

    def signal(self, number: int, which: signal.Signals) -> None:
        """Send a signal to a server and its sessions."""
        os.killpg(self.servers[number].pid, which)


def _listed(remote: Remote) -> int:
    try:
        return servers_of(remote)
    except TuneError:
        return 0


@contextmanager
def park(count: int) -> Iterator[Park]:
    """A tracker and so many servers; they end with the block."""
    made = Park()
    try:
        made.start("tracker", "--port", str(made.remote.port))
        for _ in range(count):
            made.ports.append(port := free_port())
            made.servers.append(
                made.start("serve", "--key", KEY, "--tracker", made.remote.tracker, "--port", str(port))
            )
        for _ in range(6000):  # a server listens before it has told the tracker
            if _listed(made.remote) == count:
                break
            time.sleep(0.1)
        yield made
    finally:
        for process in made.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
