"""A process that answers requests: other people's code runs there, and may crash or never return."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

from effgen.measure.carried.process import how_it_ended
from effgen.measure.pipe import receive, send

#: Seconds that a process whose pipe is closed may take to end.
_ENDING_S = 5.0


class AnsweringProcess:
    """`python -m MODULE PARENT`, which reads requests from standard input and answers on standard output.

    It ends with this process, however that ends, by `carried.process.die_with`. A context manager: it ends with the
    block.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        """`environment`: what it has beside this process's own."""
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        # A group of its own: Ctrl-C in the terminal is for this process alone, which then ends the other. No session of
        # its own: Linux shares CPUs out by session, and other work would get more of them.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **environment},
            process_group=0,
            bufsize=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def ask(self, request: object, limit_s: float | None = None) -> Any:
        """The answer to a request. Raises PipeTimeoutError after `limit_s` seconds, PipeClosedError where it died."""
        self.tell(request)
        return self.hear(limit_s)

    def tell(self, request: object) -> None:
        """Send a request whose answer is for `hear`. Raises PipeClosedError where it died."""
        assert self._process.stdin
        send(self._process.stdin.fileno(), request)

    def hear(self, limit_s: float | None = None) -> Any:
        """The answer to what it was told. Raises as `ask` does."""
        assert self._process.stdout
        return receive(self._process.stdout.fileno(), limit_s)

    def kill(self) -> None:
        """End it while another thread waits for an answer."""
        self._process.kill()

    def close(self) -> None:
        """End it, whatever it is doing."""
        with suppress(ProcessLookupError):
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()

    def how_it_died(self) -> str:
        """End what is left of one whose pipe is closed, and say how it ended: signal or status, last words."""
        try:
            status = self._process.wait(timeout=_ENDING_S)
        except subprocess.TimeoutExpired:
            status = 0
        how = how_it_ended(status, self._stderr)
        self.close()
        return how
