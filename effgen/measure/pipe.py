"""Messages between a process and one that it has started: pickled, each with its length before it.

Both ends are of one installation and the pipe is private to them, so pickle is safe here.
"""

from __future__ import annotations

import os
import pickle
import select
import struct
import time
from typing import Any

_LENGTH = struct.Struct("<Q")


class PipeClosedError(Exception):
    """The other end is gone."""


class PipeTimeoutError(Exception):
    """Nothing complete arrived in time."""


def send(descriptor: int, message: object) -> None:
    """Write one message; raises PipeClosedError."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    data = memoryview(_LENGTH.pack(len(body)) + body)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError:
        raise PipeClosedError from None


def receive(descriptor: int, limit_s: float | None = None) -> Any:
    """Read one message, within `limit_s` seconds if given; raises PipeClosedError or PipeTimeoutError."""
    deadline = None if limit_s is None else time.monotonic() + limit_s
    (length,) = _LENGTH.unpack(_read(descriptor, _LENGTH.size, deadline))
    return pickle.loads(_read(descriptor, length, deadline))


def _read(descriptor: int, size: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise PipeTimeoutError
        chunk = os.read(descriptor, min(size - len(data), 1 << 20))
        if not chunk:
            raise PipeClosedError
        data += chunk
    return bytes(data)
