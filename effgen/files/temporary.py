"""Temporary folders, whose errors say that it is TMPDIR that is full, and not what is being written."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from effgen.errors import BuildError, EffgenError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: Bytes; a file system with less has no room for anything of ours.
_LEAST_ROOM = 1 << 20
_WAY_OUT = "make room there, or name another folder with TMPDIR"


#: What a path may hold for CMake and make, which read `;`, `#`, `$`, quotes and brackets as their own.
_PLAIN = re.compile(r"[\w ./+~@,=-]+")
#: Where else temporary files may go on Linux.
_PLAIN_PLACES = ("/tmp", "/var/tmp", "/dev/shm")


def plainly_named_folder(prefix: str) -> AbstractContextManager[Path]:
    """`temporary_folder` for what cannot bear every character in a path: elsewhere than in TMPDIR where that has one.
    Raises BuildError where no such place can be written either."""
    usual = os.path.realpath(_usual_place())
    places = [place for place in (usual, *_PLAIN_PLACES) if _PLAIN.fullmatch(place) and os.access(place, os.W_OK)]
    if not places:
        raise BuildError(
            f"temporary folder {usual}: CMake cannot build in a folder of that name; name another one with TMPDIR"
        )
    return temporary_folder(prefix, place=places[0])


def _usual_place() -> str:
    try:
        return tempfile.gettempdir()
    except OSError as failed:
        raise BuildError(f"temporary folder: {failed.strerror or failed}; {_WAY_OUT}") from None


@contextmanager
def temporary_folder(
    prefix: str = "effgen-", error: type[EffgenError] = BuildError, place: str | None = None
) -> Iterator[Path]:
    """A new folder in TMPDIR, or in `place`, gone with all in it when the block ends. Raises `error` where it cannot be
    made, or where a write in the block fails because it is full."""
    try:
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True)
    except OSError as failed:
        where = failed.filename or "none can be written"
        raise error(f"temporary folder: {where}: {failed.strerror or failed}; {_WAY_OUT}") from None
    with folder as name:
        try:
            yield Path(name)
        except OSError as failed:
            if failed.errno not in _FULL or not _is_there(failed, name):
                raise
            raise error(f"temporary folder {Path(name).parent}: {failed.strerror}; {_WAY_OUT}") from None


def _is_there(failed: OSError, folder: str) -> bool:
    """Whether it is the folder's file system that failed. A failed write does not say which file's it was."""
    if failed.filename is not None:
        return str(failed.filename).startswith(folder)
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize < _LEAST_ROOM
