"""Workers on one machine that train, and now and then measure: whoever measures has the machine for itself.

A training shares the machine's lock for an epoch at a time, a measurement takes it alone. Both pass a second lock, so
that a measurement that waits is next, however many trainings follow one another.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


class Turns:
    """The locks of one machine: two files in `folder`, which is made. The kernel frees them where a worker dies."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._gate = folder / "measuring-next.lock"
        self._machine = folder / "machine.lock"

    @contextmanager
    def training(self) -> Iterator[Callable[[], None]]:
        """Work beside others; waits while one measures or is about to.

        The function that it gives is to be called between epochs: it lets those measure who wait.
        """
        with ExitStack() as stack:

            def take_turn() -> None:
                stack.close()
                with _held(self._gate, fcntl.LOCK_EX):
                    stack.enter_context(_held(self._machine, fcntl.LOCK_SH))

            take_turn()
            yield take_turn

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Work alone; waits for the epochs that are being trained."""
        with _held(self._gate, fcntl.LOCK_EX), _held(self._machine, fcntl.LOCK_EX):
            yield


@contextmanager
def _held(path: Path, kind: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, kind)
        yield
