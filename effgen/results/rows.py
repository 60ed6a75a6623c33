"""One row a model, machine and backend: what the tables and the charts show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from effgen.machines.host import Host
from effgen.results.reports import OURS, OWN, BenchReport, ModelFacts, Result
from effgen.results.sources import BenchSource

#: What chips' names carry without saying anything.
_ORNAMENT = re.compile(r"\((?:R|TM|C)\)|\bCPU\b(?= @)", re.IGNORECASE)


@dataclass(frozen=True)
class Setting:
    """What must be the same for milliseconds to be set side by side."""

    machine: str
    target: str
    threads: int
    batch: int
    dtype: str
    load: int = 0  # busy processes beside it, on purpose

    @property
    def title(self) -> str:
        """For captions and messages."""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return (
            f"{self.machine}, {threads}, batch {self.batch}, {self.dtype}, target {self.target}{load_text(self.load)}"
        )


def load_text(load: int) -> str:
    """What follows a setting: the busy processes beside it; empty without any."""
    return f", beside {load} busy process{'' if load == 1 else 'es'}" if load else ""


@dataclass(frozen=True)
class Row:
    """A backend's times for a model in a setting: milliseconds a call, images a second, `ratio` its median over
    effgen's in the same run. `bytes`: what effgen needs to run, code and weights; for a peer the ONNX file that it
    reads, its own runtime not counted.
    """

    source: str
    model: ModelFacts
    setting: Setting
    result: Result
    bytes: int | None
    disturbed: bool

    @property
    def backend(self) -> str:
        """As `effgen.judge.peers` names it, or `effgen`."""
        return self.result.backend

    @property
    def is_ours(self) -> bool:
        """Whether it is the bundle's own."""
        return self.backend == OURS

    @property
    def case(self) -> tuple[str, Setting, str]:
        """What two measurements of the same thing share."""
        return (self.model.name, self.setting, self.backend)


def machine_label(host: Host) -> str:
    """A machine's name in tables: the processor, and how many of its CPUs were used."""
    name = " ".join(_ORNAMENT.sub(" ", host.cpu).split()) or host.architecture
    count = len(host.cpus)
    return f"{name}, {count} CPU{'' if count == 1 else 's'}" if count else name


def setting_of(report: BenchReport) -> Setting:
    """Where and how a report was measured."""
    model = report.model
    return Setting(machine_label(report.machine), report.target, report.threads, model.batch, model.dtype, report.load)


def rows_of(source: BenchSource) -> list[Row]:
    """A row a backend, in the report's order: effgen first."""
    report = source.report
    model, setting = report.model, setting_of(report)
    return [
        Row(
            source=source.name,
            model=model,
            setting=setting,
            result=result,
            bytes=_bytes(model, result.backend),
            disturbed=report.disturbed,
        )
        for result in report.results
    ]


def _bytes(model: ModelFacts, backend: str) -> int | None:
    if backend in OWN:
        return model.bundle_bytes if backend == OURS else None
    return model.onnx_bytes


def by_setting(rows: Sequence[Row]) -> dict[Setting, list[Row]]:
    """Rows that may be set side by side, in the order in which their settings first come."""
    groups: dict[Setting, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    return groups


def sorted_rows(sources: Sequence[BenchSource]) -> tuple[Row, ...]:
    """All rows: by setting, then by multiply-adds and model; a report's own stay together."""
    ordered = sorted(sources, key=lambda source: _place(source.report))
    return tuple(row for source in ordered for row in rows_of(source))


def _place(report: BenchReport) -> tuple[object, ...]:
    setting = setting_of(report)
    # Many threads first: that is what most people run.
    where = (setting.machine, setting.dtype, setting.batch, setting.load, -setting.threads)
    return (*where, report.model.macs, report.model.name, setting.target)


def best_peer(report: BenchReport) -> Result | None:
    """The fastest peer's result, None where no peer was measured."""
    peers = [result for result in report.results if result.backend not in OWN]
    return min(peers, key=lambda result: result.median_ms, default=None)
