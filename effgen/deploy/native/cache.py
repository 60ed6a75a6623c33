"""Folders that are made once and kept in the user's cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from effgen.errors import BuildError
from effgen.files.owner import keep_for_us, why_not_ours


def cached_folder(name: str, fill: Callable[[Path], None]) -> Path:
    """The folder `name` of the user's cache; where it is not there, `fill` is given an empty one to put things in.

    What is in it is run and loaded: it must be this user's (or root's), and nobody else may write to it, or to the
    folder that it lies in.

    A folder appears whole or not at all, and is made by one process at a time. `name` must say all that the content
    depends on. Raises BuildError where the cache cannot be written, or others may have written to it.
    """
    from platformdirs import user_cache_path

    folder = user_cache_path("effgen", appauthor=False) / name
    try:
        if not folder.parent.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            keep_for_us(folder.parent)
        _check_owner(folder.parent)
        if not folder.is_dir():
            with FileLock(f"{folder}.lock"):
                if not folder.is_dir():
                    _make(folder, fill)
        for file in [folder, *folder.rglob("*")]:
            _check_owner(file)
    except OSError as error:
        reason = error.strerror or error
        raise BuildError(f"{folder}: cannot be written: {reason}; set XDG_CACHE_HOME to a folder that can") from None
    return folder


def _check_owner(path: Path) -> None:
    if problem := why_not_ours(path):
        raise BuildError(
            f"{path}: {problem}: the cache is run; remove it, or set XDG_CACHE_HOME to a folder of your own"
        )


def _make(folder: Path, fill: Callable[[Path], None]) -> None:
    """The caller holds the lock: a partial folder is one that a killed process left."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        fill(partial)
        for file in [partial, *partial.rglob("*")]:
            keep_for_us(file)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
