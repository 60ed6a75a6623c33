"""A folder's files as one .tar.gz: the same bytes whenever they are written, and read as what a stranger sent."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from effgen.errors import BundleError

#: The part of a path in an archive: no `.`, `..`, option or hidden file, nothing that a terminal would interpret.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")

_GZIP = b"\x1f\x8b"
_BLOCK = 512
_CHUNK = 1 << 20

#: Zeros that writers of tar files may add to a whole record, here with room to spare.
_PADDING = 1 << 16

_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.DIRTYPE: "a folder",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold. `text`: bytes of a file that is read whole, `total`: of all files."""

    files: int = 64
    text: int = 16 << 20
    total: int = 8 << 30


def write_archive(path: Path, top: str, files: Mapping[str, Path], executable: frozenset[str]) -> None:
    """Write `files`, by their path below the folder `top`, sorted; those that are `executable` are made so.

    No time, owner, mask or name of this machine is written.
    """
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name in sorted(files):
                info = tarfile.TarInfo(f"{top}/{name}")
                info.size = files[name].stat().st_size
                info.mode = 0o755 if name in executable else 0o644
                with files[name].open("rb") as content:
                    archive.addfile(info, content)


def extract_archive(archive: Path, destination: Path, limits: ArchiveLimits | None = None) -> dict[str, str]:
    """Write the files of `archive`, without its one top folder, below the empty folder `destination`; returns the
    SHA-256 of each by its path there.

    Only what `write_archive` writes is taken: plain files under plain names in one folder. Raises BundleError for
    anything else, for a damaged or truncated archive, and for one beyond the `limits` or the free space.
    """
    limits = limits or ArchiveLimits()
    try:
        file = archive.open("rb")
    except OSError as error:
        raise BundleError(f"{archive}: cannot be read: {error.strerror}; expected a file of `effgen pack`") from None
    with file:
        start = file.read(len(_GZIP))
        if start != _GZIP:
            found = f"begins with {start!r}" if start else "is empty"
            raise BundleError(f"{archive}: is no .tar.gz, it {found}; expected a file of `effgen pack`")
        file.seek(0)
        return _ArchiveReader(archive, file, limits).extract(destination)


class _ArchiveReader:
    def __init__(self, archive: Path, file: IO[bytes], limits: ArchiveLimits) -> None:
        self._archive = archive
        self._stream = gzip.GzipFile(fileobj=file, mode="rb")
        self._limits = limits
        self._top = ""
        self._hashes: dict[str, str] = {}
        self._left = limits.total

    def extract(self, destination: Path) -> dict[str, str]:
        for info in self._entries():
            name = self._checked_name(info)
            self._check_size(info, destination)
            target = destination / name
            target.parent.mkdir(exist_ok=True)
            self._hashes[name] = self._copy(info.size, target)
            target.chmod(0o755 if info.mode & 0o100 else 0o644)
        if not self._hashes:
            raise self._error("holds no files; expected those of `effgen pack`")
        return self._hashes

    def _entries(self) -> Iterator[tarfile.TarInfo]:
        while (block := self._read(_BLOCK)).strip(b"\0"):
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise self._error(f"is damaged: {error}; copy it again") from None
            if len(self._hashes) == self._limits.files:
                raise self._error(f"holds more than {self._limits.files} files: made by somebody else, or damaged")
            yield info
        self._check_end()

    def _checked_name(self, info: tarfile.TarInfo) -> str:
        """The path below the top folder."""
        where = f"holds {info.name!r}"
        if info.type != tarfile.REGTYPE:
            kind = _KINDS.get(info.type, "no plain file")
            raise self._error(f"{where}, {kind}: expected files alone; make it by `effgen pack`")
        top, *parts = info.name.split("/")
        self._top = self._top or top
        if not 1 <= len(parts) <= 2 or not all(_PART.fullmatch(part) for part in (top, *parts)):
            raise self._error(f"{where}: expected FOLDER/FILE or FOLDER/FOLDER/FILE of plain names, inside the folder")
        if top != self._top:
            raise self._error(f"{where}: expected all files in one folder, which is {self._top!r}")
        name = "/".join(parts)
        folders = {str(PurePosixPath(other).parent) for other in self._hashes}
        if name in self._hashes or name in folders or parts[0] in self._hashes:
            raise self._error(f"{where} twice, or as a file and a folder")
        return name

    def _check_size(self, info: tarfile.TarInfo, destination: Path) -> None:
        is_text = "/" not in info.name.partition("/")[2] or info.name.endswith(".json")
        most = min(self._left, self._limits.text) if is_text else self._left
        if not 0 <= info.size <= most:
            raise self._error(f"holds {info.name!r} of {info.size} bytes: expected at most {most} more")
        free = shutil.disk_usage(destination).free
        if info.size > free:
            raise self._error(f"holds {info.name!r} of {info.size} bytes, {free} are free in {destination.parent}")
        self._left -= info.size

    def _copy(self, size: int, target: Path) -> str:
        found = hashlib.sha256()
        with target.open("xb") as file:
            for start in range(0, size, _CHUNK):
                data = self._read(min(_CHUNK, size - start))
                found.update(data)
                file.write(data)
        self._read(-size % _BLOCK)
        return found.hexdigest()

    def _check_end(self) -> None:
        """Nothing but zeros may follow; reading to the end is what has gzip's own sum compared."""
        rest = self._read_some(_PADDING)
        if rest.strip(b"\0") or self._read_some(1):
            raise self._error("goes on after its end; make it by `effgen pack`")

    def _read(self, size: int) -> bytes:
        data = self._read_some(size)
        if len(data) != size:
            raise self._error("is truncated; copy it again")
        return data

    def _read_some(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        try:
            return self._stream.read(size)
        except EOFError:
            raise self._error("is truncated; copy it again") from None
        except (OSError, zlib.error) as error:
            raise self._error(f"is damaged: {error}; copy it again") from None

    def _error(self, text: str) -> BundleError:
        return BundleError(f"{self._archive}: {text}")
