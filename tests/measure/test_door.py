"""A device's server: who is silent at its door keeps nobody out."""

from __future__ import annotations

import socket
import struct
import warnings
from contextlib import ExitStack

import pytest
from servers import park

from effgen.measure.door import _MOST_WAITING, Door

MAGIC = 0x1234
LIMIT_S = 300.0


def words(key: bytes, magic: int = MAGIC) -> bytes:
    return struct.pack("<ii", magic, len(key)) + key


def knock(door: Door, said: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", door.port), timeout=LIMIT_S)
    client.sendall(said)
    return client


def test_the_silent_wait_beside_the_others() -> None:
    """What the server reads is what the client has said, from its first byte on."""
    door = Door("127.0.0.1", 0, MAGIC, patience_s=LIMIT_S)
    with knock(door), knock(door, words(b"client:a")[:-1]), knock(door, words(b"client:b")):
        connection, address = door.accept()
        assert connection.recv(100) == words(b"client:b") and address[0] == "127.0.0.1"
        assert connection.gettimeout() is None
        connection.close()


def test_a_session_that_has_ended_is_closed() -> None:
    """Nobody but the server holds what it was handed."""
    door = Door("127.0.0.1", 0, MAGIC, patience_s=LIMIT_S)
    with knock(door, words(b"client:e")) as client, warnings.catch_warnings(action="ignore", category=ResourceWarning):
        connection, _ = door.accept()
        connection.recv(100)
        del connection  # as when the frame of TVM's loop goes, in which a session has failed
        assert client.recv(1) == b""


def test_words_that_come_in_pieces() -> None:
    door = Door("127.0.0.1", 0, MAGIC, patience_s=LIMIT_S)
    with knock(door) as client:
        for byte in words(b"client:c"):
            client.sendall(bytes([byte]))
        connection, _ = door.accept()
        assert connection.recv(100) == words(b"client:c")
        connection.close()


@pytest.mark.parametrize(
    "said", [words(b"a", magic=1), struct.pack("<ii", MAGIC, -1), struct.pack("<ii", MAGIC, 1 << 30)]
)
def test_wrong_words(said: bytes) -> None:
    door = Door("127.0.0.1", 0, MAGIC, patience_s=LIMIT_S)
    with knock(door, said) as client:
        assert client.recv(1) == b""


def test_the_silent_are_sent_away() -> None:
    door = Door("127.0.0.1", 0, MAGIC, patience_s=0.2)
    with knock(door) as silent, knock(door, words(b"half")[:-1]) as half:
        assert silent.recv(1) == half.recv(1) == b""


def test_too_many_silent_ones() -> None:
    """The first of them makes room."""
    door = Door("127.0.0.1", 0, MAGIC, patience_s=LIMIT_S)
    with ExitStack() as stack:
        silent = [stack.enter_context(knock(door)) for _ in range(_MOST_WAITING)]
        stack.enter_context(knock(door, words(b"client:d")))
        connection, _ = door.accept()
        assert silent[0].recv(1) == b""
        connection.close()


def test_a_session_beside_silent_connections() -> None:
    """With TVM's own client, at the server and at the tracker."""
    from effgen.measure.tracker import session_with

    with park(1) as made, ExitStack() as stack:
        address = made.remote.host, made.ports[0]
        for place in (address, (made.remote.host, made.remote.port)):
            for _ in range(8):
                stack.enter_context(socket.create_connection(place, timeout=LIMIT_S))
        session = session_with(made.remote, wait_s=LIMIT_S, session_s=60)
        assert session.get_function("runtime.NumThreads")() >= 1
