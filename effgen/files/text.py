"""Writing a report as text to a file that is checked to be writable before the work starts."""

from __future__ import annotations

import os
from pathlib import Path

from effgen.errors import EffgenError
from effgen.files.temporary import temporary_file_beside


def check_writable(option: str, path: Path, instead: str = "") -> None:
    """Raise EffgenError where no file can be written at `path`; `instead` is what the option takes beside a path."""
    end = f", {instead}" if instead else ""
    if path.is_dir() or not path.parent.is_dir():
        found = "is a directory" if path.is_dir() else f"{path.parent} is no directory"
        raise EffgenError(f"{option} {path}: {found}; give a file's path{end}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise EffgenError(f"{option} {path}: not writable; give another path{end}")


def write_text(option: str, path: Path, text: str) -> None:
    """Write the file whole or not at all. Raises EffgenError, naming `option`, where it cannot be written."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device: nothing to replace
            path.write_text(text, encoding="utf-8")
            return
        path = path.resolve()  # what a link points to is replaced, not the link
        with temporary_file_beside(path) as partial:
            partial.write_text(text, encoding="utf-8", newline="")
            partial.chmod(0o644)  # temporary files are private
            partial.replace(path)
    except OSError as error:
        raise EffgenError(f"{option} {path}: cannot write: {error.strerror}; give another path") from None
