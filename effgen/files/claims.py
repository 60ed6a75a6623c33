"""What one of several processes is at, so that the others leave it alone: a lock on one byte of a file for each.

The byte is a number made of the thing's name; the kernel frees it when its process ends, however that ends (open file
description locks, `man 2 fcntl`; over NFS the server does).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from pathlib import Path

#: struct flock: type, whence, start, length, process (0); the kernel reads no further.
_FLOCK = "hhqqi"


class Claims:
    """Claims on names, kept in `path`, which is made when the first one is taken and stays empty.

    Where the file system has no such locks, or the file cannot be made, every claim is granted: work may then be done
    twice, which harms less than none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._works = True

    def take(self, name: str) -> bool:
        """Whether the name is this object's now (or already was); False: it is another one's."""
        try:
            self._set(fcntl.F_WRLCK, name)
        except (BlockingIOError, PermissionError):  # EAGAIN and EACCES both say that another one has it
            return self._descriptor is None
        except OSError:
            self._works = False
        return True

    def drop(self, name: str) -> None:
        """Leave it to others."""
        if self._descriptor is not None and self._works:
            self._set(fcntl.F_UNLCK, name)

    def close(self) -> None:
        """Drop all."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _set(self, kind: int, name: str) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        digest = hashlib.sha256(name.encode()).digest()
        start = int.from_bytes(digest[:8], "big") >> 2  # below 2^62: an offset has a sign
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, start, 1, 0))
