"""Tuning records: what was measured for which kernel, on which machine, and which decisions are best there.

A database is a file of JSON lines that only grows. It survives kill -9 (a torn line is skipped and counted) and
several tuners at a time (appending holds a lock). No compiler is needed to read or write one.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from effgen.errors import TuneError
from effgen.jsonlines import LinesFile

if TYPE_CHECKING:  # a Space needs TVM
    from effgen.kernels.workload import Workload
    from effgen.schedules.space import Space
    from effgen.target import Machine

Status = Literal["ok", "wrong", "crashed", "timeout", "build_error"]
STATUSES: tuple[Status, ...] = ("ok", "wrong", "crashed", "timeout", "build_error")


@dataclass(frozen=True)
class MachineKey:
    """Machines for which times and decisions are the same: LLVM's name of the processor, or a GPU's architecture, and
    the float32 lanes of a vector."""

    mcpu: str
    lanes: int

    @staticmethod
    def of(machine: Machine) -> MachineKey:
        """The key of a machine."""
        return MachineKey(machine.processor, machine.lanes)


@dataclass(frozen=True)
class Record:
    """One candidate's outcome.

    `seconds` is the time of a call where the status is ok (`effgen.measure.timing`). Candidates of a kernel are timed
    in turn with the best one known, and `seconds` is that one's times the measured ratio: so the records of a kernel
    compare among themselves although a machine is faster today than tomorrow. `kept` marks those that were the best
    known when they were measured, better than the one before beyond the noise; only they are ever chosen. `device` is
    what the machine calls itself; lines of earlier versions lack it.
    """

    kernel: str
    rule: str
    decisions: Mapping[str, int]
    status: Status
    cores: int
    mcpu: str
    lanes: int
    seconds: float | None = None
    kept: bool = False
    error: str = ""
    tvm: str = ""
    date: str = ""
    device: str = ""

    @property
    def machine(self) -> MachineKey:
        """Where it was measured."""
        return MachineKey(self.mcpu, self.lanes)

    @property
    def chosen(self) -> bool:
        """Whether it may be chosen for a kernel."""
        return self.kept and self.status == "ok"

    @property
    def line(self) -> str:
        """The record as one line of JSON, without the line's end."""
        return json.dumps(asdict(self) | {"decisions": dict(self.decisions)}, sort_keys=False, allow_nan=False)


def record_from_line(line: str | bytes) -> Record | None:
    """The record that a line of a database holds; None where it holds none: torn, foreign, or not of this version."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not _well_formed(data):
        return None
    return Record(**data)


def _well_formed(data: dict[str, Any]) -> bool:
    known = {item.name: item for item in fields(Record)}
    required = ("kernel", "rule", "decisions", "status", "cores", "mcpu", "lanes")
    texts = ("kernel", "rule", "status", "mcpu", "error", "tvm", "date", "device")
    if not data.keys() <= known.keys() or not all(name in data for name in required):
        return False
    if not all(isinstance(data.get(name, ""), str) for name in texts) or data["status"] not in STATUSES:
        return False
    if not (_is_int(data["cores"]) and _is_int(data["lanes"]) and isinstance(data.get("kept", False), bool)):
        return False
    decisions = data["decisions"]
    if not isinstance(decisions, dict) or not all(_is_int(value) for value in decisions.values()):
        return False
    seconds = data.get("seconds")
    if data["status"] != "ok":
        return seconds is None
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < math.inf


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Loaded:
    """What a database holds, in the order written; `ignored` counts lines that are no records."""

    records: tuple[Record, ...] = ()
    ignored: int = 0


class RecordFile(LinesFile):
    """A database of records at `path`: JSON lines, with `<path>.lock` beside it. The file need not exist yet."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "records")

    def load(self) -> Loaded:
        """Everything in the file; a missing one is empty. Raises TuneError where a file is there but unreadable."""
        return loaded_from_text(self.read())

    def append(self, record: Record) -> None:
        """Add one record, on the disk when this returns. Raises TuneError where it cannot be written."""
        self.append_lines(record.line)

    def discard(self, unwanted: Callable[[Record], bool]) -> int:
        """Remove the records that are `unwanted` and the lines that are none; returns how many records went."""
        try:
            with self.locked():
                records = self.load().records
                kept = [record for record in records if not unwanted(record)]
                if len(kept) < len(records):
                    _replace_text(self.path, "".join(f"{record.line}\n" for record in kept))
        except OSError as error:
            raise TuneError(f"{self.path}: cannot be written: {error.strerror}; nothing was removed") from None
        return len(records) - len(kept)


def loaded_from_text(text: bytes) -> Loaded:
    """The records among the lines of `text`."""
    found = [record_from_line(line) for line in text.split(b"\n") if line.strip()]
    records = tuple(record for record in found if record is not None)
    return Loaded(records, len(found) - len(records))


def default_database() -> Path:
    """The user's own database: `$XDG_DATA_HOME/effgen/records.jsonl`, `~/.local/share` where that is unset."""
    from platformdirs import user_data_path

    return user_data_path("effgen", appauthor=False) / "records.jsonl"


# Choosing.

_Key = tuple[str, str, int, int]


def best_records(records: Iterable[Record]) -> list[Record]:
    """The fastest record that may be chosen for each (kernel, machine key, cores), in the order of first mention."""
    best: dict[_Key, Record] = {}
    for record in records:
        if record.chosen:
            key = _key(record)
            if key not in best or _seconds(record) < _seconds(best[key]):
                best[key] = record
    return list(best.values())


def _key(record: Record) -> _Key:
    return (record.kernel, record.mcpu, record.lanes, record.cores)


def _seconds(record: Record) -> float:
    assert record.seconds is not None, record
    return record.seconds


@dataclass(frozen=True)
class Source:
    """Records read once, to be asked for many kernels. `name` is what reports call it; `own` the user's database."""

    name: str
    records: tuple[Record, ...] = field(repr=False)
    own: bool = False
    by_kernel: dict[str, list[Record]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for record in self.records:
            if record.chosen:
                self.by_kernel.setdefault(record.kernel, []).append(record)


def record_sources(machine: Machine, database: Path | None = None) -> tuple[Source, ...]:
    """Where to look records up for this machine: the user's database (`database`, else the default one), then what
    ships for it. Raises TuneError for a database that is there and cannot be read."""
    own = Source("database", RecordFile(database or default_database()).load().records, own=True)
    name = record_set(machine)
    return (own,) if name is None else (own, Source(f"shipped {name}", shipped_records(name).records))


def find_record(
    workload: Workload, machine: Machine, space: Space, sources: Sequence[Source]
) -> tuple[Record, Source] | None:
    """The record to use for a kernel, and the source that had it; None where its defaults have to do.

    In this order: every source for the same number of cores, then every one for the nearest larger number (work that
    was shared out to few cores would leave the others idle); in each the fastest, measured on this very kind of
    processor if there is such a one. The user's own database counts for this processor alone. A record is stale, and
    passed over, where the space has no such rule or decisions any more.
    """
    found = [
        (not same_cores, distance, index, record.mcpu != machine.processor, _seconds(record), record, source)
        for index, source in enumerate(sources)
        for record in source.by_kernel.get(workload.name, [])
        for distance in [abs(math.log(record.cores / machine.cores))]
        for same_cores in [record.cores == machine.cores]
        if _fits(record, machine, space, source)
    ]
    if not found:
        return None
    best = min(found, key=lambda item: item[:5])
    return best[5], best[6]


def find_decisions(
    workload: Workload, machine: Machine, space: Space, sources: Sequence[Source]
) -> Mapping[str, int] | None:
    """The decisions of `find_record`."""
    found = find_record(workload, machine, space, sources)
    return None if found is None else found[0].decisions


def _fits(record: Record, machine: Machine, space: Space, source: Source) -> bool:
    if record.lanes != machine.lanes or (source.own and record.mcpu != machine.processor):
        return False
    if record.cores < machine.cores:
        return False
    return bool(record.rule == space.rule and space.contains(record.decisions))


# What ships.


def record_set(machine: Machine) -> str | None:
    """The folder of shipped records that fits a machine, by the targets' names; None where none does.

    The one called like the machine; else that of the most demanding target in `targets/` which the machine fulfils
    with vectors of the same size.
    """
    from effgen.target import load_target

    names = [name for name in _stated_targets() if _shipped_folder(name).is_dir()]
    if machine.name in names:
        return machine.name
    targets = [load_target(name) for name in names]
    fulfilled = [
        target
        for target in targets
        if target.vector_bytes == machine.vector_bytes and set(target.features) <= set(machine.features)
    ]
    return max(fulfilled, key=lambda target: len(target.features)).name if fulfilled else None


def shipped_records(name: str) -> Loaded:
    """The records that ship for the target of this name (`record_set`)."""
    file = _shipped_folder(name) / "records.jsonl"
    return loaded_from_text(file.read_bytes()) if file.is_file() else Loaded()


def _stated_targets() -> list[str]:
    """Targets that are the same everywhere: those whose file does not ask for detection."""
    import tomllib
    from importlib import resources

    from effgen.target import target_names

    folder = resources.files("effgen.targets")
    files = {name: tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8")) for name in target_names()}
    return [name for name, stated in files.items() if not stated.get("detect")]


def _shipped_folder(name: str) -> Any:
    from importlib import resources

    return resources.files("effgen.schedules.records") / name


def promote(records: Iterable[Record], folder: Path, facts: Mapping[str, Any]) -> int:
    """Merge the best of `records` into the shipped `folder`; returns how many are new or better than what was there.

    `records.jsonl` holds one line for each (kernel, machine key, cores), sorted; `manifest.json` gains `facts` (TVM
    version, date, machine, ...) about this promotion. Each is replaced as a whole. Raises TuneError where the folder
    cannot be written.
    """
    file = RecordFile(folder / "records.jsonl")
    before = {_key(record): record for record in best_records(file.load().records)}
    merged = {_key(record): record for record in best_records([*before.values(), *records])}
    changed = sum(before.get(key) != record for key, record in merged.items())
    manifest = {"records": len(merged), "promotions": [*_promotions(folder), {**facts, "changed": changed}]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace_text(file.path, "".join(f"{merged[key].line}\n" for key in sorted(merged)))
        _replace_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    except OSError as error:
        raise TuneError(f"--promote {folder}: cannot be written: {error.strerror}; expected a folder") from None
    return changed


def _promotions(folder: Path) -> list[Any]:
    """Earlier promotions into this folder, oldest first."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return cast(list[Any], manifest.get("promotions", [])) if isinstance(manifest, dict) else []


def _replace_text(path: Path, text: str) -> None:
    """Write beside `path`, then rename: readers see the old file or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
