"""Whose turn it is to run a model: one thread's at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, get_ident

from effgen.errors import BundleError


class Turn:
    """A lock that a thread does not wait for when it has it itself."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._thread: int | None = None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The block is run when no other thread is in one.

        Raises BundleError for a thread that is in one: what runs between two instructions of it, a signal's handler or
        a finaliser, may call the model that the thread is at a call of.
        """
        if self._thread == get_ident():
            raise BundleError(
                "a model is called inside its own call, by a signal's handler or a finaliser; call a twin() there"
            )
        with self.lock:
            try:
                self._thread = get_ident()
                yield
            finally:
                self._thread = None
