"""Finding the record for a kernel on a machine, without loading a compiler."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from effgen.machines.microarchitecture import UNKNOWN
from effgen.records.database import RecordFile, default_database
from effgen.records.record import Record
from effgen.records.shipped import shipped_sets

if TYPE_CHECKING:  # a Space needs TVM
    from effgen.kernels.workload import Workload
    from effgen.machines.machine import Machine
    from effgen.schedules.space import Space


@dataclass(frozen=True)
class RecordSource:
    """Records read once, to be asked for many kernels. `name` is what reports call it; `own` the user's database."""

    name: str
    records: tuple[Record, ...] = field(repr=False)
    own: bool = False
    by_kernel: dict[str, list[Record]] = field(init=False, repr=False, compare=False, default_factory=dict)
    timed: dict[str, list[Record]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for record in self.records:
            if record.status == "ok":
                self.timed.setdefault(record.kernel, []).append(record)
            if record.chosen:
                self.by_kernel.setdefault(record.kernel, []).append(record)


def record_sources(machine: Machine, database: Path | None = None) -> tuple[RecordSource, ...]:
    """Where to look records up for this machine: the user's database (`database`, else the default one), then what
    ships for it, micro-architecture by micro-architecture, the nearest first. Raises TuneError for a database that is
    there and cannot be read."""
    own = RecordSource("database", RecordFile(database or default_database()).load().records, own=True)
    shipped = (RecordSource(f"shipped {each.name}", each.records) for each in shipped_sets(machine))
    return (own, *shipped)


def find_record(
    workload: Workload, machine: Machine, space: Space, sources: Sequence[RecordSource]
) -> tuple[Record, RecordSource] | None:
    """The record to use for a kernel, and the source that had it; None where its defaults have to do.

    In this order: every source for the same number of cores, then every one for the nearest larger number (work that
    was shared out to few cores would leave the others idle); in each the fastest, measured on this very kind of
    processor if there is such a one. The user's own database counts for this processor alone (`Record.is_of`). A record
    is stale, and passed over, where the space has no such rule or decisions any more, or cannot build
    them.
    """
    found = [
        (not same_cores, distance, index, _unlike(record, machine), record.time_s, record, source)
        for index, source in enumerate(sources)
        for record in source.by_kernel.get(workload.name, [])
        for distance in [abs(math.log(record.cores / machine.threads))]
        for same_cores in [record.cores == machine.threads]
        if _fits(record, machine, space, source)
    ]
    if not found:
        return None
    in_turn = sorted(found, key=lambda item: item[:5])
    return next(((record, source) for *_, record, source in in_turn if space.builds(record.decisions)), None)


def find_decisions(
    workload: Workload, machine: Machine, space: Space, sources: Sequence[RecordSource]
) -> Mapping[str, int] | None:
    """The decisions of `find_record`."""
    found = find_record(workload, machine, space, sources)
    return None if found is None else found[0].decisions


def measured_record(
    workload: Workload, machine: Machine, space: Space, decisions: Mapping[str, int], sources: Sequence[RecordSource]
) -> Record | None:
    """What the user's own database holds of these decisions on this machine, with its threads, chosen or not; None
    where they were not measured. The last record counts."""
    found = [
        record
        for source in sources
        if source.own
        for record in source.timed.get(workload.name, [])
        if record.cores == machine.threads and record.decisions == decisions and _fits(record, machine, space, source)
    ]
    return found[-1] if found else None


def _unlike(record: Record, machine: Machine) -> tuple[bool, bool]:
    """Whether another name of the processor, another micro-architecture or none, stands in the record."""
    other = machine.microarchitecture not in (UNKNOWN, record.microarchitecture)
    return record.mcpu != machine.processor, other


def _fits(record: Record, machine: Machine, space: Space, source: RecordSource) -> bool:
    if record.lanes != machine.lanes or (source.own and not record.is_of(machine)):
        return False
    if record.cores < machine.threads:
        return False
    return bool(record.rule == space.rule and space.contains(record.decisions))
