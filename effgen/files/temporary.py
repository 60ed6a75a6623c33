"""Folders and files that are not to stay: removed when their work ends, and where it was killed by whoever comes next.

Each is held by a lock (`man 2 flock`) as long as its process lives; the kernel frees it however that ends. What can be
locked is therefore nobody's, in whichever container its maker was. Making one and sweeping are done under a lock of the
folder above, so that none is swept between its making and its lock. Where a file system has no locks nothing is swept.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from effgen.errors import BuildError

#: The end of names beside an output, by which what was left there is known.
SUFFIX = ".effgen-tmp"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: Bytes; a file system with less has no room for anything of ours.
_LEAST_ROOM = 1 << 20
#: What a path may hold for CMake and make, which read `;`, `#`, `$`, quotes and brackets as their own.
_PLAIN = re.compile(r"[\w ./+~@,=-]+")
#: Where else temporary files may go on Linux.
_PLAIN_PLACES = ("/tmp", "/var/tmp", "/dev/shm")

#: Seconds to wait for the lock of a folder, which is held for a few renames at a time.
_PATIENCE_S = 10.0

#: What this process holds, by device and inode.
_held: set[tuple[int, int]] = set()

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def temporary_folder(purpose: str, place: Path | None = None) -> Iterator[Path]:
    """A new folder below the system's temporary one ($TMPDIR), or below `place`, removed with all that is in it when
    the block ends.

    What killed processes of this user left there goes first. Raises BuildError where none can be made, or where a write
    in the block fails because that place is full: what is to be written is somewhere else, and not to blame.
    """
    try:
        place = place or Path(tempfile.gettempdir())
        home = _home(place)
    except OSError as error:
        raise _no_folder(place, error) from None
    with ExitStack() as stack:
        # Swept only where all is effgen's own.
        made = _made(home or place, f"{purpose}-" if home else f"effgen-{purpose}-", "", "" if home else None)
        try:
            folder = stack.enter_context(made)
        except OSError as error:
            raise _no_folder(place, error) from None
        work = folder / "work"  # `folder` itself is held: children could not lock it to write there
        work.mkdir()
        try:
            yield work
        except OSError as error:
            if error.errno in _FULL and _is_there(error, folder):
                raise _no_folder(place, error) from None
            raise


def plainly_named_folder(purpose: str) -> AbstractContextManager[Path]:
    """`temporary_folder` for what cannot bear every character in a path: elsewhere than in TMPDIR where that has one.
    Raises BuildError where no such place can be written either."""
    try:
        usual = os.path.realpath(tempfile.gettempdir())
    except OSError as error:
        raise _no_folder(None, error) from None
    places = [place for place in (usual, *_PLAIN_PLACES) if _PLAIN.fullmatch(place) and os.access(place, os.W_OK)]
    if not places:
        raise BuildError(
            f"temporary folder {usual}: CMake cannot build in a folder of that name; name another one with TMPDIR"
        )
    return temporary_folder(purpose, Path(places[0]))


def _no_folder(place: Path | None, error: OSError) -> BuildError:
    where = f"temporary folder {place}" if place else "temporary folder"
    return BuildError(f"{where}: {error.strerror or error}; make room there, or name another folder with TMPDIR")


def _is_there(error: OSError, folder: Path) -> bool:
    """Whether it is the folder's file system that failed. A failed write does not say which file's it was."""
    if error.filename is not None:
        return str(error.filename).startswith(str(folder))
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize < _LEAST_ROOM


@contextmanager
def temporary_folder_beside(output: Path) -> Iterator[Path]:
    """A new folder in `output`'s parent, to be renamed to it; what is left of it is removed when the block ends.

    What killed processes left in that parent goes first. Raises OSError where none can be made.
    """
    with _made(output.parent, f".{output.name}.", SUFFIX, SUFFIX) as folder:
        yield folder


@contextmanager
def temporary_file_beside(output: Path) -> Iterator[Path]:
    """As `temporary_folder_beside`, an empty file that only this user may read."""
    with _made(output.parent, f".{output.name}.", SUFFIX, SUFFIX, file=True) as path:
        yield path


@contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """Be alone among effgen's processes in what is done to names in `folder`; gives whether it is so.

    It is not where the file system has no locks, or where somebody holds one for longer than anything here takes. What
    this process holds is its own already.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        yield _identity(descriptor) in _held or _lock_patiently(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _made(parent: Path, prefix: str, suffix: str, swept: str | None, file: bool = False) -> Iterator[Path]:
    """`swept`: the end of the names that are swept, all where it is empty; None: nothing is, the folder is common."""
    path, held = None, None
    try:
        with locked_folder(parent) as has_locks:
            if has_locks and swept is not None:
                _sweep(parent, swept)
            if file:
                held, name = tempfile.mkstemp(suffix, prefix, parent)
                path = Path(name)
            else:
                path = Path(tempfile.mkdtemp(suffix, prefix, parent))
                held = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            _lock(held)
            _held.add(_identity(held))
        yield path
    finally:
        if path is not None:
            _remove(path)
        if held is not None:
            _held.discard(_identity(held))
            os.close(held)


def exchanged(one: Path, other: Path) -> bool:
    """Let two names of one file system change places, at once (`man 2 renameat2`); False where it cannot do that.

    Raises OSError where it can, and there is another reason.
    """
    rename: Any = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _home(place: Path) -> Path | None:
    """This user's own folder below the temporary one, `place`; None where somebody else has taken its name.

    Of its own, because others could hold a lock of the common one for ever.
    """
    home = place / f"effgen-{os.geteuid()}"
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    found = home.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return home if private else None


def _sweep(parent: Path, suffix: str) -> None:
    """Remove what nobody holds, of this user's; the caller holds the lock of `parent`."""
    for entry in os.scandir(parent):
        with suppress(OSError):  # gone meanwhile, or not to be opened: left to whoever can
            if entry.name.endswith(suffix) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                _sweep_one(Path(entry.path))


def _sweep_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if _lock(descriptor):
            _remove(path)
    finally:
        os.close(descriptor)


def _lock_patiently(descriptor: int) -> bool:
    end = time.monotonic() + _PATIENCE_S
    while not _lock(descriptor):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
