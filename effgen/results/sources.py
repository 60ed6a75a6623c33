"""The files of a comparison: each read, and named so that a reader finds it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from effgen.errors import ResultsError
from effgen.results.reports import BenchReport, LayersReport, Report, StreamsReport, read_report

R = TypeVar("R", bound=Report, covariant=True)


@dataclass(frozen=True)
class ReportSource(Generic[R]):
    """A report and the name of its file: without folders where no other file has it."""

    name: str
    report: R


#: A file of `effgen bench`, and one of `effgen bench --layers`.
BenchSource = ReportSource[BenchReport]
LayersSource = ReportSource[LayersReport]


def read_sources(paths: Sequence[Path], option: str) -> tuple[tuple[BenchSource, ...], tuple[LayersSource, ...]]:
    """The reports of all files, for folders of all `*.json` in them; first those of `bench`, then of `bench --layers`.

    Raises ResultsError for a file that holds none, an empty folder, or a file that is given twice.
    """
    files = [file for path in paths for file in _files_of(path, option)]
    resolved = [file.resolve() for file in files]
    for file, count in Counter(resolved).items():
        if count > 1:
            raise ResultsError(f"{option} {file.name}: given {count} times; give each file once")
    names = Counter(file.name for file in files)
    reports = [(file.name if names[file.name] == 1 else str(file), _compared(file)) for file in files]
    bench = (ReportSource(name, report) for name, report in reports if isinstance(report, BenchReport))
    layers = (ReportSource(name, report) for name, report in reports if isinstance(report, LayersReport))
    return tuple(bench), tuple(layers)


def _compared(file: Path) -> Report:
    report = read_report(file)
    if isinstance(report, StreamsReport):
        raise ResultsError(f"{file}: is of bench --streams, which compare does not show; leave it out")
    return report


def _files_of(path: Path, option: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.json"))
    if not found:
        raise ResultsError(f"{option} {path}: no *.json in it; write some with effgen bench --json")
    return found
