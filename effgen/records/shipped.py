"""The records that ship: which set fits a machine, and how better ones are promoted into it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effgen.errors import TuneError
from effgen.files.bounded import UnreadableError, read_json
from effgen.machines.target import load_target, target_names
from effgen.records.database import Loaded, RecordFile, best_records, key_of, loaded_from_text, replace_text
from effgen.records.record import Record

if TYPE_CHECKING:  # a Space needs TVM
    from effgen.machines.machine import Machine


def record_set(machine: Machine) -> str | None:
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


def shipped_records(name: str) -> Loaded:
    """The records that ship for the target of this name (`record_set`)."""
    file = _shipped_folder(name) / "records.jsonl"
    return loaded_from_text(file.read_bytes()) if file.is_file() else Loaded()


def _stated_targets() -> list[str]:
    """Targets that are the same everywhere: those whose file does not ask for detection."""
    folder = resources.files("effgen.targets")
    files = {name: tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8")) for name in target_names()}
    return [name for name, stated in files.items() if not stated.get("detect")]


def _shipped_folder(name: str) -> Any:
    return resources.files("effgen.schedules.records") / name


def promote(records: Iterable[Record], folder: Path, facts: Mapping[str, Any]) -> int:
    """Merge the best of `records` into the shipped `folder`; returns how many are new or better than what was there.

    `records.jsonl` holds one line for each (kernel, machine key, cores), sorted; `manifest.json` gains `facts` (TVM
    version, date, machine, ...) about this promotion. Each is replaced as a whole. Raises TuneError where the folder
    cannot be written.
    """
    file = RecordFile(folder / "records.jsonl")
    before = {key_of(record): record for record in best_records(file.load().records)}
    merged = {key_of(record): record for record in best_records([*before.values(), *records])}
    changed = sum(before.get(key) != record for key, record in merged.items())
    manifest = {"records": len(merged), "promotions": [*_promotions(folder), {**facts, "changed": changed}]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(file.path, "".join(f"{merged[key].line}\n" for key in sorted(merged)))
        replace_text(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    except OSError as error:
        raise TuneError(f"--promote {folder}: cannot be written: {error.strerror}; expected a folder") from None
    return changed


def _promotions(folder: Path) -> list[Any]:
    """Earlier promotions into this folder, oldest first."""
    try:
        promotions = read_json(folder / "manifest.json")["promotions"]
    except (UnreadableError, KeyError, TypeError):
        return []
    return promotions if isinstance(promotions, list) else []
