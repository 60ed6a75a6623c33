"""Who may have written what is about to be run or loaded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def why_not_ours(path: Path) -> str | None:
    """Why others may have written the file or folder, in a few words; None where only this user and root may have: it
    belongs to one of them, is no link, and nobody else may write to it. Raises OSError."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link, which effgen does not make"
    return _whose(found) or _written_by_others(found)


def why_not_shared_safely(folder: Path) -> str | None:
    """Why others could put something else in the place of what this user makes in the folder; None where they cannot:
    it is this user's or root's alone, or sticky, as /tmp is. Raises OSError."""
    found = folder.stat()
    return _whose(found) or (None if found.st_mode & stat.S_ISVTX else _written_by_others(found))


def keep_for_us(path: Path) -> None:
    """Let nobody else write to the file or folder, whatever the user's mask was when it was made."""
    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)


def _whose(found: os.stat_result) -> str | None:
    return None if found.st_uid in (os.geteuid(), 0) else f"belongs to another user (uid {found.st_uid})"


def _written_by_others(found: os.stat_result) -> str | None:
    mode = stat.S_IMODE(found.st_mode)
    return f"others may write to it (mode {mode:o})" if mode & _OTHERS else None
