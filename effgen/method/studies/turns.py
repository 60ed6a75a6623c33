"""Workers on one machine that train, and now and then measure: whoever measures has the machine for itself.

A training shares the machine's lock for an epoch at a time, a measurement takes it alone. Both pass a second lock, so
that a measurement that waits is next, however many trainings follow one another.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from effgen.errors import StudyError


class Turns:
    """The locks of one machine: two files in `folder`, which is made. The kernel frees them where a worker dies.

    Raises StudyError where they cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._gate = folder / "measuring-next.lock"
        self._machine = folder / "machine.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in (self._gate, self._machine):
                path.touch()
        except OSError as error:
            raise StudyError(
                f"{folder}: cannot be written: {os.strerror(error.errno or 0)}; searches of one machine meet there: "
                "make it writable, or set XDG_DATA_HOME to a folder that is"
            ) from None

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


def turns_here() -> Turns:
    """Those of this machine's workers, whatever study they are of."""
    from platformdirs import user_data_path

    return Turns(user_data_path("effgen", appauthor=False) / "turns")


@contextmanager
def _held(path: Path, kind: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, kind)
        yield
