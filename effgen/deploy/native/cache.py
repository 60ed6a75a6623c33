"""Folders that are made once and kept in the user's cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from effgen.errors import BuildError


def cached_folder(name: str, fill: Callable[[Path], None]) -> Path:
    """The folder `name` of the user's cache; where it is not there, `fill` is given an empty one to put things in.

    A folder appears whole or not at all, and is made by one process at a time. `name` must say all that the content
    depends on. Raises BuildError where the cache cannot be written.
    """
    from platformdirs import user_cache_path

    folder = user_cache_path("effgen", appauthor=False) / name
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _make(folder, fill)
    except OSError as error:
        reason = error.strerror or error
        raise BuildError(f"{folder}: cannot be written: {reason}; set XDG_CACHE_HOME to a folder that can") from None
    return folder


def _make(folder: Path, fill: Callable[[Path], None]) -> None:
    """The caller holds the lock: a partial folder is one that a killed process left."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        fill(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
