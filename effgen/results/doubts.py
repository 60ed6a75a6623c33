"""What a reader has to know before he compares rows: other machines, other versions, disturbed or scattered times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from effgen.results.reports import OWN, Report, Result
from effgen.results.rows import Row, machine_label
from effgen.results.sources import BenchSource, LayersSource, ReportSource

#: Four calls of five spread over more than this share of the median.
WIDE_SPREAD = 0.5

#: The medians of two runs of the same case lie further apart than this.
APART = 0.05

#: So many files are named in a line.
_NAMED = 3

_DIRTY = "+dirty"

AnySource = ReportSource[Report]

_Stated = TypeVar("_Stated", bound=Hashable)


def doubts_of(
    bench: Sequence[BenchSource],
    layers: Sequence[LayersSource],
    rows: Sequence[Row],
    before: Sequence[BenchSource] = (),
) -> tuple[str, ...]:
    """A line for everything that makes a comparison doubtful; none where all was measured alike.

    `before`, a baseline, is doubted too, except that effgen itself is another there: that is what is judged.
    """
    earlier = [ReportSource(f"--baseline {source.name}", source.report) for source in before]
    now: list[AnySource] = [*bench, *layers]
    sources: list[AnySource] = [*now, *earlier]
    peers = [(name, result) for name, result in _results(earlier) if result.backend not in OWN]
    return (
        *_disturbed(sources),
        *_scattered(rows),
        *_several_machines(sources),
        *_machines_changed(sources),
        *_several_versions([*_results(bench), *peers]),
        *_several_compilers(sources),
        *_several_commits(now),
        *_several_ways(rows),
        *_measured_again(rows),
    )


def _disturbed(sources: Sequence[AnySource]) -> Iterator[str]:
    busy = {source.name: source.report.other_cpus for source in sources if source.report.disturbed}
    most = max((cpus for cpus in busy.values() if cpus is not None), default=0.0)
    if busy:
        yield (
            f"{_of(len(busy), sources)} disturbed: other processes kept up to {most:.1f} CPUs busy, times are "
            f"inflated, those of peers perhaps more ({_some(busy)})"
        )


def _scattered(rows: Sequence[Row]) -> Iterator[str]:
    wide = [row for row in rows if row.result.spread is not None and row.result.spread > WIDE_SPREAD]
    if wide:
        found = _some(f"{row.backend} in {row.source}" for row in wide)
        yield f"{len(wide)} of {len(rows)} rows scattered, p10 to p90 over {WIDE_SPREAD:.0%} of the median ({found})"


def _several_machines(sources: Sequence[AnySource]) -> Iterator[str]:
    machines = dict.fromkeys(machine_label(source.report.machine) for source in sources)
    if len(machines) > 1:
        yield f"{len(machines)} machines ({'; '.join(machines)}): set milliseconds side by side within one only"


def _machines_changed(sources: Sequence[AnySource]) -> Iterator[str]:
    """The same machine by name that is another by its caches, memory or system."""
    for label in dict.fromkeys(machine_label(source.report.machine) for source in sources):
        hosts = [
            (source.name, source.report.machine) for source in sources if machine_label(source.report.machine) == label
        ]
        for what, found in (
            ("system", _files_by((name, host.system) for name, host in hosts)),
            ("caches", _files_by((name, str(host.caches)) for name, host in hosts)),
            ("memory", _files_by((name, f"{host.memory_bytes >> 20} MiB") for name, host in hosts)),
        ):
            if len(found) > 1:
                yield f"{label}: its {what} differs: {_named(found)}"


def _results(sources: Sequence[BenchSource]) -> list[tuple[str, Result]]:
    """Each result and the name of its file."""
    return [(source.name, result) for source in sources for result in source.report.results]


def _several_versions(results: Sequence[tuple[str, Result]]) -> Iterator[str]:
    for backend in dict.fromkeys(result.backend for _, result in results):
        found = _files_by(
            (name, result.version)
            for name, result in results
            if result.backend == backend and result.version is not None
        )
        if len(found) > 1:
            yield f"{backend}: {len(found)} versions: {_named(found)}"


def _several_compilers(sources: Sequence[AnySource]) -> Iterator[str]:
    for what in ("tvm", "compiler"):
        used = [(source.name, source.report.origin.compiled_by.get(what)) for source in sources]
        found = _files_by((name, version) for name, version in used if version is not None)
        if len(found) > 1:
            yield f"compiled by several versions of {what}: {_named(found)}"


def _several_commits(sources: Sequence[AnySource]) -> Iterator[str]:
    revisions = [(source.name, source.report.origin.revision or "") for source in sources]
    commits = _files_by((name, revision.removesuffix(_DIRTY)) for name, revision in revisions if revision)
    if len(commits) > 1:
        yield f"several commits of effgen: {_named(commits)}"
    dirty = sum(revision.endswith(_DIRTY) for _, revision in revisions)
    if dirty:
        yield f"{_of(dirty, sources)} measured with uncommitted changes to effgen"


def _several_ways(rows: Sequence[Row]) -> Iterator[str]:
    """One model on one machine with several thread counts, batches, types or targets."""
    for key in ("threads", "batch", "dtype", "target"):
        mixed: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        for row in rows:
            mixed[row.model.name, row.setting.machine][str(getattr(row.setting, key))] = None
        models = [model for (model, _), values in mixed.items() if len(values) > 1]
        if models:
            values = sorted({value for found in mixed.values() if len(found) > 1 for value in found})
            yield f"{key} differs ({', '.join(values)}) between rows of {_some(dict.fromkeys(models))}"


def _measured_again(rows: Sequence[Row]) -> Iterator[str]:
    again: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        again[row.case].append(row)
    for same in again.values():
        medians = [row.result.median_ms for row in same]
        if len(same) > 1 and max(medians) > min(medians) * (1 + APART):
            yield (
                f"{same[0].model.name} by {same[0].backend} was measured {len(same)} times, "
                f"{min(medians):.3g} to {max(medians):.3g} ms: {_some(row.source for row in same)}"
            )


def _of(count: int, sources: Sequence[AnySource]) -> str:
    return f"{count} of {len(sources)} file{'' if len(sources) == 1 else 's'}"


def _files_by(pairs: Iterable[tuple[str, _Stated]]) -> dict[_Stated, list[str]]:
    """The files that share a value."""
    found: dict[_Stated, list[str]] = {}
    for name, value in pairs:
        found.setdefault(value, []).append(name)
    return found


def _named(found: Mapping[_Stated, Sequence[str]]) -> str:
    return ", ".join(f"{value} ({_some(files)})" for value, files in found.items())


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more
