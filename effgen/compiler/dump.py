"""The text of every stage of a compilation, for those who want to look."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Dump:
    """Writes `NN_stage.ext` files in order into a folder, or nothing where there is none. The folder exists."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._count = 0

    @property
    def wanted(self) -> bool:
        """Whether anybody looks: ask before making a text that takes time."""
        return self._folder is not None

    def write(self, stage: str, text: str, extension: str = "txt") -> None:
        """Write one stage's text."""
        if self._folder is None:
            return
        (self._folder / f"{self._count:02d}_{stage}.{extension}").write_text(text, encoding="utf-8")
        self._count += 1

    def write_module(self, stage: str, mod: Any) -> None:
        """Write a `tvm.IRModule` as TVMScript, without its constants."""
        if self.wanted:
            self.write(stage, mod.script(show_meta=False), "py")
