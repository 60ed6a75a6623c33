"""The door of a device's server: connections are let in once they have said what they want.

TVM's server reads a new connection's first words with no limit of time, and looks at no other one meanwhile: a single
client that connects and is silent keeps everyone out. Here each waits before the door, beside the others and for some
seconds only; the server is handed those whose words have come whole.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

#: Seconds for a connection's first words.
_PATIENCE_S = 5.0
#: Connections that may be before the door; the one that came first goes where there are more.
_MOST_WAITING = 64
#: Bytes that a client may call itself by.
_LONGEST_KEY = 1024
_LOOK_EVERY_S = 0.02


class Door:
    """A listening socket for TVM's server: `accept` and `fileno`, which can be waited for, are all that it uses.

    Raises OSError where the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, magic: int, patience_s: float = _PATIENCE_S) -> None:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._listening = socket.create_server((host, port), family=family, backlog=_MOST_WAITING)
        self.port: int = self._listening.getsockname()[1]
        self._magic, self._patience_s = magic, patience_s
        self._ready: queue.SimpleQueue[tuple[socket.socket, Any]] = queue.SimpleQueue()
        # It holds as many bytes as connections are ready.
        self._bell, self._rope = os.pipe()
        self._waiting: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        _start(self._let_in)

    def fileno(self) -> int:
        """A descriptor that can be read while a connection is ready."""
        return self._bell

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that is ready, and its address."""
        os.read(self._bell, 1)
        return self._ready.get()

    def _let_in(self) -> None:
        while True:
            try:
                connection, address = self._listening.accept()
            except OSError:  # no descriptor left: those that wait go soon
                time.sleep(_LOOK_EVERY_S)
                continue
            with self._lock:
                if len(self._waiting) >= _MOST_WAITING:
                    self._drop(next(iter(self._waiting)))
                self._waiting[connection] = None
            _start(partial(self._hear, connection, address))
            del connection  # nor is it held open here, when its session has ended

    def _hear(self, connection: socket.socket, address: Any) -> None:
        """Wait for the connection's first words, which stay to be read."""
        until = time.monotonic() + self._patience_s
        said: bool | None = None
        with suppress(OSError):  # it has gone, or was dropped
            while said is None and time.monotonic() < until:
                said = self._has_spoken(connection, until)
                time.sleep(0.0 if said is not None else _LOOK_EVERY_S)
        with self._lock:
            if connection not in self._waiting:
                return
            if not said:
                self._drop(connection)
                return
            del self._waiting[connection]
            connection.settimeout(None)
            self._ready.put((connection, address))
            os.write(self._rope, b"x")

    def _has_spoken(self, connection: socket.socket, until: float) -> bool | None:
        """Whether its words are what a client says; None: not all of them have come."""
        connection.settimeout(max(0.001, until - time.monotonic()))
        words = connection.recv(8 + _LONGEST_KEY, socket.MSG_PEEK)
        if not words:
            return False
        if len(words) >= 4 and struct.unpack("<i", words[:4])[0] != self._magic:
            return False
        if len(words) < 8:
            return None
        (length,) = struct.unpack("<i", words[4:8])
        if not 0 <= length <= _LONGEST_KEY:
            return False
        return True if len(words) >= 8 + length else None

    def _drop(self, connection: socket.socket) -> None:
        """Be rid of it; a session's process may hold a copy of it, so closing alone would not do."""
        del self._waiting[connection]
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def _start(work: Callable[[], None]) -> None:
    """In a thread that nobody waits for."""
    threading.Thread(target=work, daemon=True).start()
