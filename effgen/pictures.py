"""What `effgen run` was given to look at: files, folders and standard input as one list of pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from effgen.errors import ImageError
from effgen.runtime.picture import SUFFIXES, printable

#: The argument that stands for a picture's bytes on standard input.
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Source:
    """A picture by the name that reports call it: a path, or bytes that were read already."""

    name: str
    picture: Path | bytes


def sources_from_arguments(arguments: Sequence[str]) -> list[Source]:
    """The pictures in the order of the arguments: a file itself whatever its name, a folder's sorted.

    A folder stands for the files in it and in the folders below whose suffix is a picture's; what begins with a dot and
    links to folders are left out. A file that is missing is noticed when it is read. Raises ImageError for a folder
    that holds none or cannot be read, and for standard input that is named twice.
    """
    if arguments.count(STANDARD_INPUT) > 1:
        raise ImageError(f"{STANDARD_INPUT}: standard input holds one picture; give it once")
    return [source for argument in arguments for source in _sources(argument)]


def _sources(argument: str) -> list[Source]:
    if argument == STANDARD_INPUT:
        return [Source(argument, sys.stdin.buffer.read())]
    path = Path(argument)
    if not path.is_dir():
        return [Source(printable(path), path)]
    found = [Source(printable(file), file) for file in _files_below(path)]
    if not found:
        raise ImageError(f"{argument}: no pictures in this folder; expected files that end in {', '.join(SUFFIXES)}")
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise ImageError(f"{error.filename}: cannot be read: {error.strerror}")

    for where, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(where) / name
