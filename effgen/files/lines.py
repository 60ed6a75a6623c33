"""A file of JSON lines that only grows: it survives kill -9 and several writers at a time. One reader for all of them.

Appending holds a lock, and ends a line that a killed process tore before it writes its own.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from effgen.errors import TuneError
from effgen.files.bounded import (
    MOST_LINE_BYTES,
    MOST_LINES,
    MOST_LINES_BYTES,
    MissingError,
    UnreadableError,
    read_bytes,
)

Read = TypeVar("Read")


def read_lines(kind: TypeAdapter[Read], text: bytes) -> tuple[list[Read], int]:
    """What lines of JSON hold, as strictly as `kind` says, and how many hold nothing: torn, foreign, of another time,
    longer than MOST_LINE_BYTES.

    Empty ones do not count."""
    found, ignored = [], 0
    for line in io.BytesIO(text):
        if line.strip():
            try:
                found.append(kind.validate_json(line[: MOST_LINE_BYTES + 1]))
            except ValidationError:
                ignored += 1
    return found, ignored


class LinesFile:
    """Lines at `path`, with `<path>.lock` beside it. The file need not exist yet. `what` messages call the lines."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what

    def check(self) -> None:
        """Make the folder; raises TuneError where the file cannot be read and appended to: before the work."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.locked(), self.path.open("ab"), self.path.open("rb"):
                pass
        except OSError as error:
            raise TuneError(
                f"{self.path}: cannot be opened for {self._what}: {error.strerror or error}; expected a file that can "
                "be written; give another path"
            ) from None

    def read(self) -> bytes:
        """Everything in the file; a missing one is empty. Raises TuneError where a file is there but unreadable, or is
        larger or has more lines than such a file ever has."""
        try:
            text = read_bytes(self.path, MOST_LINES_BYTES)
        except MissingError:
            return b""
        except UnreadableError as error:
            raise TuneError(f"{self.path}: cannot be read: {error}; expected a file of {self._what}") from None
        if text.count(b"\n") > MOST_LINES:
            raise TuneError(
                f"{self.path}: has more than {MOST_LINES:,} lines, which is the most that are read here; expected a "
                f"file of {self._what}"
            )
        return text

    def append_lines(self, *lines: str) -> None:
        """Add lines, on the disk when this returns. Raises TuneError where they cannot be written."""
        try:
            with self.locked():
                self._append("".join(f"{line}\n" for line in lines).encode())
        except OSError as error:
            raise TuneError(
                f"{self.path}: cannot be written: {error.strerror}; the {self._what} so far are kept"
            ) from None

    def _append(self, data: bytes) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data
            while data:  # a full disk or a signal may cut a write short
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The lock goes with its holder, however that ends; its file stays."""
        with FileLock(f"{self.path}.lock"):
            yield
