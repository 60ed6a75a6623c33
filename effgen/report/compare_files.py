"""The files that `effgen compare -o` writes, by their endings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effgen.files.text import check_writable, write_text
from effgen.report.compare import csv_from_comparison, markdown_from_comparison
from effgen.report.html.document import check_packages
from effgen.report.html.page import page_from_comparison
from effgen.results.comparison import Comparison


@dataclass(frozen=True)
class Files:
    """Where a comparison is to be written: the HTML page, the rows as CSV, the tables as Markdown; None is nowhere."""

    page: Path | None = None
    csv: Path | None = None
    markdown: Path | None = None

    def check(self) -> None:
        """Raise EffgenError where one could not be written: before the work, not after it."""
        for option, path in (("-o/--output", self.page), ("--csv", self.csv), ("--markdown", self.markdown)):
            if path is not None:
                check_writable(option, path)
        if self.page is not None:
            check_packages()


def write_files(comparison: Comparison, gate: float | None, files: Files) -> None:
    """Write those that are wanted, each whole or not at all. Raises EffgenError where one cannot be written."""
    if files.csv is not None:
        write_text("--csv", files.csv, csv_from_comparison(comparison))
    if files.markdown is not None:
        write_text("--markdown", files.markdown, markdown_from_comparison(comparison, gate))
    if files.page is not None:
        write_text("-o/--output", files.page, page_from_comparison(comparison, gate))
