"""The folder of a front: a spec of each network, a page, and the numbers; whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from effgen.files.bounded import UnreadableError, read_json
from effgen.files.staging import FolderKind, check_directory, staged_directory
from effgen.method.studies.front import BaselineReport, Member
from effgen.network.spec_file import as_baseline, toml_from_spec
from effgen.report.html.document import check_packages
from effgen.report.html.search_page import page_from_search
from effgen.report.search import json_from_search
from effgen.report.text import milliseconds_text, percent_text

#: What stands beside the specs; the second tells such a folder.
PAGE, DATA = "report.html", "search.json"
FRONT = FolderKind(DATA, "the front of a search", "-o/--output")


def check_front_folder(output: Path, force: bool, study: str) -> None:
    """Raise BuildError where `write_front` could not write: before the work, not after it."""
    check_packages()
    check_directory(output, force or _is_of(output, study), FRONT)


def write_front(report: BaselineReport, output: Path, force: bool) -> None:
    """A folder with the page, the data, and a spec of each network of the front, whole or not at all.

    One of the same search is replaced, with `force` that of another too. Raises BuildError where it cannot be written.
    """
    with staged_directory(output, force or _is_of(output, report.study), FRONT) as folder:
        for member in report.front:
            spec = as_baseline(member.candidate.spec)
            text = toml_from_spec(spec, f"Found by {report.study}, {report.date}: {_said_of(member)}.")
            (folder / f"{spec.name}.toml").write_text(text, encoding="utf-8")
        (folder / PAGE).write_text(page_from_search(report), encoding="utf-8")
        (folder / DATA).write_text(json.dumps(json_from_search(report), indent=2) + "\n", encoding="utf-8")


def _said_of(member: Member) -> str:
    return f"accuracy {percent_text(member.accuracy)}, {milliseconds_text(member.latency_ms)} ms"


def _is_of(folder: Path, study: str) -> bool:
    """Whether it holds what the same search wrote earlier."""
    try:
        return bool(read_json(folder / DATA)["study"] == study)
    except (UnreadableError, KeyError, TypeError):
        return False
