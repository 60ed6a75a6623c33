"""Tuning records: what was measured for which kernel, on which machine, and which decisions are best there.

A database is a file of JSON lines that only grows. It survives kill -9 (a torn line is skipped and counted) and
several tuners at a time (appending holds a lock). No compiler is needed to read or write one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from effgen.errors import TuneError
from effgen.files.lines import LinesFile
from effgen.files.temporary import temporary_file_beside
from effgen.records.record import Record, records_from_text


@dataclass(frozen=True)
class Loaded:
    """What a database holds, in the order written; `ignored` counts lines that are no records."""

    records: tuple[Record, ...] = ()
    ignored: int = 0


@dataclass(frozen=True)
class Seen:
    """How much of a database is known: of which file (inode and device), up to which byte."""

    file: tuple[int, int] = (0, 0)
    size: int = 0


NOTHING_SEEN = Seen()


class RecordFile(LinesFile):
    """A database of records at `path`: JSON lines, with `<path>.lock` beside it. The file need not exist yet."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "records")

    def load(self) -> Loaded:
        """Everything in the file; a missing one is empty. Raises TuneError where a file is there but unreadable."""
        return loaded_from_text(self.read())

    def since(self, seen: Seen) -> tuple[Loaded, Seen]:
        """What has come to the file since `seen` (everything where it was replaced), in whole lines, and where that
        ends. Raises TuneError as `load`."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                start = seen.size if (found.st_ino, found.st_dev) == seen.file and found.st_size >= seen.size else 0
                file.seek(start)
                text = file.read()
        except FileNotFoundError:
            return Loaded(), NOTHING_SEEN
        except OSError as error:
            raise TuneError(f"{self.path}: cannot be read: {error.strerror}; expected a file of records") from None
        whole = text[: text.rfind(b"\n") + 1]
        return loaded_from_text(whole), Seen((found.st_ino, found.st_dev), start + len(whole))

    def append(self, record: Record) -> None:
        """Add one record, on the disk when this returns. Raises TuneError where it cannot be written."""
        self.append_lines(record.line)

    def discard(self, unwanted: Callable[[Record], bool]) -> int:
        """Remove the records that are `unwanted` and the lines that are none; returns how many records went."""
        try:
            with self.locked():
                records = self.load().records
                kept = [record for record in records if not unwanted(record)]
                if len(kept) < len(records):
                    replace_text(self.path, "".join(f"{record.line}\n" for record in kept))
        except OSError as error:
            raise TuneError(f"{self.path}: cannot be written: {error.strerror}; nothing was removed") from None
        return len(records) - len(kept)


def loaded_from_text(text: bytes) -> Loaded:
    """The records among the lines of `text`."""
    records, ignored = records_from_text(text)
    return Loaded(tuple(records), ignored)


def default_database() -> Path:
    """The user's own database: `$XDG_DATA_HOME/effgen/records.jsonl`, `~/.local/share` where that is unset."""
    from platformdirs import user_data_path

    return user_data_path("effgen", appauthor=False) / "records.jsonl"


_BestKey = tuple[str, str, int, int, str]


def best_records(records: Iterable[Record]) -> list[Record]:
    """The fastest record that may be chosen for each (kernel, machine key, cores, micro-architecture), in the order of
    first mention."""
    best: dict[_BestKey, Record] = {}
    for record in records:
        if record.chosen:
            key = key_of(record)
            if key not in best or record.time_s < best[key].time_s:
                best[key] = record
    return list(best.values())


def key_of(record: Record) -> _BestKey:
    return (record.kernel, record.mcpu, record.lanes, record.cores, record.microarchitecture)


def replace_text(path: Path, text: str) -> None:
    """Write beside `path`, then rename: readers see the old file or the new one."""
    with temporary_file_beside(path) as partial:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        partial.replace(path)
