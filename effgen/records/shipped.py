"""The records that ship: which sets fit a machine, and how better ones are promoted into it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effgen.errors import TuneError
from effgen.files.bounded import UnreadableError, read_json
from effgen.machines.microarchitecture import nearest_first
from effgen.machines.target import load_target, target_names
from effgen.records.database import Loaded, RecordFile, best_records, key_of, loaded_from_text, replace_text
from effgen.records.record import Record

if TYPE_CHECKING:  # a Space needs TVM
    from effgen.machines.machine import Machine

_SUFFIX = ".jsonl"

#: What stands in a file's name for a micro-architecture that nobody knows.
_NOBODY_KNOWS = "unknown"


@dataclass(frozen=True)
class ShippedSet:
    """The records of one folder that were measured on one micro-architecture. `name` says both: `x86-64-v4/zen4`."""

    name: str
    records: tuple[Record, ...]


def shipped_sets(machine: Machine) -> tuple[ShippedSet, ...]:
    """What ships for a machine: of the folder that fits it, the sets of all micro-architectures, the nearest first
    (`nearest_first`; those that are equally far by the number of their records, then by name)."""
    folder = record_folder(machine)
    if folder is None:
        return ()
    sets = {name: shipped_records(folder, name).records for name in shipped_microarchitectures(folder)}
    by_size = sorted(sets, key=lambda name: (-len(sets[name]), name))
    nearest = nearest_first(by_size, machine.microarchitecture)
    return tuple(ShippedSet(f"{folder}/{name}", sets[name]) for name in nearest)


def shipped_names(target: str) -> list[str]:
    """Names of the sets that ship for the target of this name, as `shipped_sets` orders them."""
    return [each.name for each in shipped_sets(load_target(target))]


def record_folder(machine: Machine) -> str | None:
    """The folder of shipped records that fits a machine, by the targets' names; None where none does.

    The one called like the machine; else that of the most demanding target in `targets/` which the machine fulfils
    with vectors of the same size.
    """
    names = [name for name in _stated_targets() if _shipped_folder(name).is_dir()]
    if machine.name in names:
        return machine.name
    targets, has = map(load_target, names), set(machine.needed_features)
    fulfilled = [each for each in targets if each.lanes == machine.lanes and has.issuperset(each.needed_features)]
    return max(fulfilled, key=lambda target: len(target.needed_features)).name if fulfilled else None


def shipped_microarchitectures(folder: str) -> list[str]:
    """Those that the folder (`record_folder`) has records of."""
    files = (file.name for file in _shipped_folder(folder).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX))


def shipped_records(folder: str, microarchitecture: str) -> Loaded:
    """The records that ship in a folder for a micro-architecture."""
    return loaded_from_text((_shipped_folder(folder) / f"{microarchitecture}{_SUFFIX}").read_bytes())


def _stated_targets() -> list[str]:
    """Targets that are the same everywhere: those whose file does not ask for detection."""
    folder = resources.files("effgen.targets")
    files = {name: tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8")) for name in target_names()}
    return [name for name, stated in files.items() if not stated.get("detect")]


def _shipped_folder(name: str) -> Any:
    return resources.files("effgen.schedules.records") / name


def promote(records: Iterable[Record], folder: Path, facts: Mapping[str, Any]) -> int:
    """Merge the best of `records` into the shipped `folder`; returns how many are new or better than what was there.

    `<micro-architecture>.jsonl` (`unknown.jsonl` where nobody knows it) holds one line for each (kernel, machine key,
    cores), sorted; `manifest.json` the number of records by micro-architecture, and gains `facts` (TVM version, date,
    machine, ...) about this promotion. Each is replaced as a whole. Raises TuneError where they cannot be written.
    """
    found = sorted(records, key=_file_of)
    merged = {name: _merged(folder / name, list(group)) for name, group in groupby(found, _file_of)}
    changed = sum(count for _, count in merged.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (kept, _) in merged.items():
            replace_text(folder / name, "".join(f"{record.line}\n" for record in kept))
        counts = {path.stem: len(RecordFile(path).load().records) for path in sorted(folder.glob(f"*{_SUFFIX}"))}
        manifest = {"records": counts, "promotions": [*_promotions(folder), {**facts, "changed": changed}]}
        replace_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    except OSError as error:
        raise TuneError(f"--promote {folder}: cannot be written: {error.strerror}; expected a folder") from None
    return changed


def _file_of(record: Record) -> str:
    return f"{record.microarchitecture or _NOBODY_KNOWS}{_SUFFIX}"


def _merged(path: Path, records: list[Record]) -> tuple[list[Record], int]:
    """The best of what the file has and of `records`, in the file's order, and how many are new."""
    before = {key_of(record): record for record in best_records(RecordFile(path).load().records)}
    best = {key_of(record): record for record in best_records([*before.values(), *records])}
    return [best[key] for key in sorted(best)], sum(before.get(key) != record for key, record in best.items())


def _promotions(folder: Path) -> list[Any]:
    """Earlier promotions into this folder, oldest first."""
    try:
        promotions = read_json(folder / "manifest.json")["promotions"]
    except (UnreadableError, KeyError, TypeError):
        return []
    return promotions if isinstance(promotions, list) else []
