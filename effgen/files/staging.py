"""Writing a folder, a bundle say, whole or not at all: everything goes to one beside it, which is renamed last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from effgen.errors import BuildError
from effgen.files.temporary import exchanged, locked_folder, temporary_folder_beside


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder: the file that tells it, what errors call it, and the option that names it."""

    marker: str
    name: str
    option: str


@contextmanager
def staged_directory(output: Path, force: bool, kind: FolderKind) -> Iterator[Path]:
    """A new folder beside `output` that takes its place when the block ends well, and is removed when it does not.

    Raises BuildError before any work is done: `output` exists without `force`, is not of the `kind` that may be
    replaced, or cannot be written; and afterwards where writing failed, a full disk say.
    """
    check_directory(output, force, kind)
    with _beside(output) as staging:
        yield staging
        staging.chmod(0o755)  # mkdtemp makes it private
        with locked_folder(output.parent):
            _check_still(output, force, kind.option)
            _replace(staging, output)


@contextmanager
def staged_file(output: Path, force: bool) -> Iterator[Path]:
    """As `staged_directory`, for one file and what is written beside it: yields the path to write in a new folder.

    When the block has ended the files outlive a power cut. `output` itself takes its place last.
    """
    check_file(output, force)
    with _beside(output) as staging:
        yield staging / output.name
        files = sorted(staging.iterdir(), key=lambda file: (file.name == output.name, file.name))
        for file in files:
            _flush(file)
        with locked_folder(output.parent):
            _check_still(output, force)
            for file in files:
                file.replace(output.parent / file.name)
        _flush_names(output.parent)


def check_directory(output: Path, force: bool, kind: FolderKind) -> None:
    """Raise BuildError where `output` may not be written. With `force` only its `kind` or an empty folder goes."""
    _check_name(output, force, kind.option)
    if not _exists(output):
        return
    if output.is_symlink():
        raise BuildError(f"{output}: is a symbolic link: --force replaces folders only; give the path it points to")
    if not output.is_dir() or (any(output.iterdir()) and not (output / kind.marker).is_file()):
        raise BuildError(f"{output}: exists and is not {kind.name}: --force replaces nothing else; remove it by hand")


def check_file(output: Path, force: bool) -> None:
    """Raise BuildError where the file `output` may not be written."""
    _check_name(output, force)
    if output.is_dir():
        raise BuildError(f"{output}: is a directory; expected the name of a file")


def _check_name(output: Path, force: bool, option: str = "-o/--output") -> None:
    if not output.name:
        raise BuildError(f"{option} '{output}': expected a name to write")
    if _exists(output) and not force:
        raise BuildError(f"{output}: exists already; choose another {option}, or --force to replace it")
    nearest = next(parent for parent in output.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise BuildError(f"{output}: cannot be written: {nearest} is not a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise BuildError(f"{output}: cannot be written: no permission in {nearest}")


def _check_still(output: Path, force: bool, option: str = "-o/--output") -> None:
    """Raise BuildError where `output` has come to be since it was checked; the caller has locked its parent."""
    if _exists(output) and not force:
        way_out = f"choose another {option}, or --force to replace it"
        raise BuildError(f"{output}: exists now, made by another process meanwhile; {way_out}")


def _exists(path: Path) -> bool:
    """Also for a symbolic link to nothing, and for what stands below a file."""
    return os.path.lexists(path)


@contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """A new folder in `output`'s parent, removed in the end, with the parents made for it where the block fails."""
    made = [parent for parent in output.absolute().parents if not parent.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for folder in made:
            _flush_names(folder.parent)
        with temporary_folder_beside(output) as staging:
            yield staging
    except BaseException as error:
        _remove_empty(made)
        if isinstance(error, OSError):
            raise BuildError(f"{output}: cannot be written: {error.strerror or error}") from None
        raise


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders that were made for nothing, innermost first."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _replace(staging: Path, output: Path) -> None:
    """Rename `staging` to `output`; what stood there goes only once the new one is in place.

    The two change places, so that a process killed at any moment leaves one of them at `output`.
    """
    if not output.exists():
        staging.rename(output)
    elif not exchanged(staging, output):
        _replace_in_steps(staging, output)


def _replace_in_steps(staging: Path, output: Path) -> None:
    """Where the file system cannot exchange names there is nothing at `output` for a moment."""
    aside = staging.with_suffix(".old")
    try:
        output.rename(aside)
        staging.rename(output)
    except BaseException:  # Ctrl-C too
        if aside.exists() and not output.exists():
            aside.rename(output)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until the disk holds what was written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_names(folder: Path) -> None:
    """As `_flush`, for the names in a folder: not every file system can, nor may every folder be read."""
    with suppress(OSError):
        _flush(folder)
