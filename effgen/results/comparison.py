"""All that a comparison holds, made once; what prints and draws reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effgen.errors import ResultsError
from effgen.results.doubts import doubts_of
from effgen.results.front import front
from effgen.results.paper import Remeasured, remeasured
from effgen.results.regressions import Regressions, regressions_of
from effgen.results.rows import Row, Setting, by_setting, sorted_rows
from effgen.results.sources import BenchSource, LayersSource, read_sources


@dataclass(frozen=True)
class Comparison:
    """Rows by setting and size; doubts, a line each; the front of each setting; the paper's pairs; the kernels' files.

    `regressions` None: there was no baseline.
    """

    bench: tuple[BenchSource, ...]
    layers: tuple[LayersSource, ...]
    rows: tuple[Row, ...]
    doubts: tuple[str, ...]
    fronts: dict[Setting, tuple[Row, ...]]
    paper: tuple[Remeasured, ...]
    regressions: Regressions | None


def compare_files(files: Sequence[Path], baseline: Sequence[Path] = ()) -> Comparison:
    """Read the files, and those of the baseline where there is one, and set them side by side.

    Raises ResultsError for a file that cannot be read, and where there is nothing to compare.
    """
    bench, layers = read_sources(files, "FILE")
    before, _ = read_sources(baseline, "--baseline")
    if baseline and not before:
        raise ResultsError("--baseline: no results of effgen bench in it (those of --layers are not compared)")
    if baseline and not bench:
        raise ResultsError("FILE: no results of effgen bench to compare with --baseline, only of --layers")
    rows = sorted_rows(bench)
    ordered = tuple(sorted(layers, key=lambda source: (source.report.model.macs, source.name)))
    return Comparison(
        bench=bench,
        layers=ordered,
        rows=rows,
        doubts=doubts_of(bench, layers, rows, before),
        fronts={setting: tuple(front(group)) for setting, group in by_setting(rows).items()},
        paper=remeasured(rows),
        regressions=regressions_of(bench, before) if baseline else None,
    )
