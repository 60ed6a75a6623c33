"""The table of measured kernels: a file of JSON lines that only grows, and what its lines say of one machine.

A line holds for the machine, its cores and the very code that made the kernel: any change of kernels or schedule rules
makes it a line of the past, which is passed over.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, PositiveFloat, TypeAdapter, with_config

from effgen.files.lines import LinesFile, read_lines
from effgen.files.strict import STRICT, Int64
from effgen.machines.machine import Machine
from effgen.method.latency.work import Work
from effgen.records.database import default_database
from effgen.records.record import DecisionKey, Status, decision_key

#: How a kernel was timed: where it stands in a running network, or by itself with cold caches.
Surroundings = Literal["network", "alone"]
_HOWS: tuple[Surroundings, ...] = ("network", "alone")

#: Sources that decide what a kernel is, and what its stored work means: with any of them changed, times are measured
#: anew.
_CODE = ("effgen.kernels", "effgen.schedules", "effgen.method.latency.work", "effgen.machines.machine")


@with_config(STRICT)
@dataclass(frozen=True)
class KernelSetting:
    """What a time holds for: the processor as records name it, its lanes and cores, effgen's code and TVM."""

    mcpu: str
    lanes: Int64
    cores: Int64
    code: str
    tvm: str

    @staticmethod
    def of(machine: Machine) -> KernelSetting:
        """The setting of kernels that are made now for a machine."""
        code = code_fingerprint(json.dumps(machine.rule_facts, sort_keys=True))
        return KernelSetting(machine.processor, machine.lanes, machine.threads, code, version("apache-tvm"))


@cache
def code_fingerprint(rule_facts: str) -> str:
    """A hash of all that makes kernels and schedules, and counts their work, and of what the rules take from a target's
    file. None of the code is loaded: some needs TVM."""
    found = hashlib.sha256(rule_facts.encode())
    for name in _CODE:
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        module = Path(spec.origin)
        sources = sorted(module.parent.rglob("*.py")) if spec.submodule_search_locations else [module]
        for source in sources:
            found.update(f"{source.relative_to(module.parent)}\n".encode() + source.read_bytes())
    return found.hexdigest()[:16]


@dataclass(frozen=True)
class _Entry:
    """What a line of the table holds."""

    @property
    def line(self) -> str:
        """As one line of JSON, without the line's end."""
        return json.dumps(asdict(self), default=dict, allow_nan=False)


@with_config(STRICT)
@dataclass(frozen=True)
class KernelTime(_Entry):
    """Seconds of a call of one kernel with these decisions."""

    kernel: str
    decisions: Mapping[str, Int64]
    how: Surroundings
    seconds: PositiveFloat
    work: Annotated[Work, BeforeValidator(Work.from_facts)]
    setting: KernelSetting
    device: str = ""
    date: str = ""


@with_config(STRICT)
@dataclass(frozen=True)
class NetworkTime(_Entry):
    """Seconds of a run of a whole network, and of its kernels added up, measured in turn. `network` says which one it
    was, to the last of its layers."""

    network: str
    seconds: PositiveFloat
    kernels_s: PositiveFloat
    setting: KernelSetting
    device: str = ""
    date: str = ""


@with_config(STRICT)
@dataclass(frozen=True)
class KernelFailure(_Entry):
    """A kernel that, with these decisions, could not be timed by itself; `status` and `error` say why."""

    kernel: str
    decisions: Mapping[str, Int64]
    status: Status
    error: str
    setting: KernelSetting
    device: str = ""
    date: str = ""


TableLine = KernelTime | NetworkTime | KernelFailure


_LINE: TypeAdapter[TableLine] = TypeAdapter(TableLine)


def lines_from_text(text: bytes) -> tuple[list[TableLine], int]:
    """What the lines of a table hold, and how many hold nothing: torn, foreign, or not of this version."""
    return read_lines(_LINE, text)


def table_path(database: Path | None = None) -> Path:
    """The table that belongs to a database of tuning records (None: the user's own): `records.times.jsonl` beside
    `records.jsonl`."""
    return (database or default_database()).with_suffix(".times.jsonl")


_KernelKey = tuple[str, DecisionKey]


class Times:
    """What a table says of one setting. Kernels measured several times have the median of their times."""

    def __init__(self, lines: bytes, setting: KernelSetting) -> None:
        self._kernels: dict[Surroundings, dict[_KernelKey, list[KernelTime]]] = {how: {} for how in _HOWS}
        self._failed: set[_KernelKey] = set()
        self.networks: list[NetworkTime] = []
        entries, self.ignored = lines_from_text(lines)
        for entry in entries:
            if entry.setting == setting:
                self._take(entry)

    def _take(self, found: TableLine) -> None:
        if isinstance(found, NetworkTime):
            self.networks.append(found)
        elif isinstance(found, KernelFailure):
            self._failed.add(_key(found.kernel, found.decisions))
        else:
            key = _key(found.kernel, found.decisions)
            self._kernels[found.how].setdefault(key, []).append(found)

    def seconds(self, how: Surroundings, kernel: str, decisions: Mapping[str, int]) -> float | None:
        """Of a call of this kernel as built with these decisions; None where it was not timed so."""
        times = self._kernels[how].get(_key(kernel, decisions))
        return statistics.median(time.seconds for time in times) if times else None

    def failed(self, kernel: str, decisions: Mapping[str, int]) -> bool:
        """Whether this kernel could not be timed by itself when that was tried."""
        return _key(kernel, decisions) in self._failed

    def kernels(self, how: Surroundings) -> list[KernelTime]:
        """One of each kernel timed so, its seconds the median's."""
        return [_median(times) for times in self._kernels[how].values()]


def _median(times: list[KernelTime]) -> KernelTime:
    first = times[0]
    seconds = statistics.median(time.seconds for time in times)
    return KernelTime(first.kernel, first.decisions, first.how, seconds, first.work, first.setting)


def _key(kernel: str, decisions: Mapping[str, int]) -> _KernelKey:
    return kernel, decision_key(decisions)


def times_file(database: Path | None = None) -> LinesFile:
    """The file of `table_path`."""
    return LinesFile(table_path(database), "times of kernels")


def load_times(machine: Machine, database: Path | None = None) -> Times:
    """What the table says of a machine as kernels are made for it now. Raises TuneError where it cannot be read."""
    return Times(times_file(database).read(), KernelSetting.of(machine))
