"""What `effgen run` was given to look at: files, folders and standard input as one list of pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from effgen.errors import DataError, ImageError
from effgen.runtime.picture import SUFFIXES, printable

#: The argument that stands for a picture's bytes on standard input.
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class PictureSource:
    """A picture by the name that reports call it: a path, bytes that were read already, or why there is none."""

    name: str
    picture: Path | bytes | ImageError


def sources_from_arguments(arguments: Sequence[str]) -> list[PictureSource]:
    """The pictures in the order of the arguments: a file itself whatever its name, a folder's sorted.

    A folder stands for the files in it and in the folders below whose suffix is a picture's; what begins with a dot and
    links to folders are left out. A file that is missing is noticed when it is read; a folder that holds none or cannot
    be read has its error in its place. Raises ImageError where that is all there is, and for standard input that is
    named twice.
    """
    if arguments.count(STANDARD_INPUT) > 1:
        raise ImageError(f"{STANDARD_INPUT}: standard input holds one picture; give it once")
    sources = [source for argument in arguments for source in _sources(argument)]
    errors = [source.picture for source in sources if isinstance(source.picture, ImageError)]
    if len(errors) == len(sources):
        raise ImageError("; ".join(dict.fromkeys(map(str, errors))))
    return sources


def _sources(argument: str) -> list[PictureSource]:
    if argument == STANDARD_INPUT:
        return [PictureSource(argument, sys.stdin.buffer.read())]
    path = Path(argument)
    if not path.is_dir():
        return [PictureSource(printable(path), path)]
    unread: list[OSError] = []
    found = [PictureSource(printable(file), file) for file in files_below(path, unread)]
    failed = [_failed(error.filename, f"cannot be read: {error.strerror}") for error in unread]
    if not found and not failed:
        expected = f"expected files that end in {', '.join(SUFFIXES)}"
        return [_failed(argument, f"no pictures in this folder; {expected}")]
    return found + failed


def _failed(name: str, why: str) -> PictureSource:
    name = printable(name)
    return PictureSource(name, ImageError(f"{name}: {why}"))


def files_below(folder: Path, unread: list[OSError]) -> Iterator[Path]:
    """The files below `folder` with a picture's suffix, in order; what cannot be read is appended to `unread`."""
    for where, folders, files in os.walk(folder, onerror=unread.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if _is_picture(name):
                yield Path(where) / name


def pictures_below(folder: Path) -> list[Path]:
    """`files_below`, all of them to be judged or learned from. Raises DataError where a folder cannot be read."""
    unread: list[OSError] = []
    files = list(files_below(folder, unread))
    if unread:
        raise DataError(f"{printable(unread[0].filename)}: cannot be read: {unread[0].strerror}")
    return files


def folders_in(folder: Path) -> list[Path]:
    """The folders right below `folder`, links to some among them, by name; what begins with a dot is left out.

    Raises DataError where it cannot be read.
    """
    entries = (entry for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith("."))
    return sorted(entries, key=lambda entry: entry.name)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures right in `folder`, by name. Raises DataError where it cannot be read."""
    return sorted(entry for entry in _entries(folder) if _is_picture(entry.name) and not entry.is_dir())


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot be read: {error.strerror or error}") from None
