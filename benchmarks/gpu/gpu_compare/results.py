"""`results.json`: written after every configuration, read to go on where a run was stopped; and its table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_compare import CompareError
from gpu_compare.backends import OURS

FORMAT = 1

#: What must be the same for results to stand in one file.
_IDENTITY = ("revision", "device", "software")


def begin_results(path: Path, origin: Mapping[str, Any]) -> dict[str, Any]:
    """The results in `path`, or new ones of `origin` (revision, device, software and more).

    Raises CompareError where the file is damaged, or of another folder, GPU or PyTorch.
    """
    if not path.exists():
        return {"format": FORMAT, **origin, "configurations": {}}
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = {key: _identity(results[key]) for key in _IDENTITY}
        known = results["format"] == FORMAT and isinstance(results["configurations"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompareError(f"{path}: no results of run.py ({error}); choose another --out, or remove it") from None
    for key in _IDENTITY if known else ():
        here = _identity(origin[key])
        if found[key] != here:
            raise CompareError(f"{path}: {key} is {found[key]}, here {here}; choose another --out, or remove it")
    if not known:
        raise CompareError(f"{path}: format = {results['format']}: expected {FORMAT}; choose another --out")
    return results


def _identity(value: Any) -> Any:
    """What of a device or of software makes it another: not its temperature or clocks."""
    if isinstance(value, dict):
        return {key: value[key] for key in ("name", "arch", "driver_version", "torch", "numpy") if key in value}
    return value


def is_done(results: Mapping[str, Any], name: str) -> bool:
    """Whether the configuration is measured; one that failed is tried again."""
    return "error" not in results["configurations"].get(name, {"error": "not measured"})


def write_results(results: Mapping[str, Any], path: Path) -> None:
    """Write the file, whole or not at all. Raises CompareError where it cannot be written."""
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise CompareError(f"--out {path}: cannot be written: {error.strerror}") from None


def table_lines(results: Mapping[str, Any]) -> list[str]:
    """The results as text: a row for each configuration and precision of its peers, then what was left out."""
    rows = [("configuration", "rel L2", "golden", "ok", "effgen ms", "host ms", "images/s", "peers ms", "best", "goal")]
    notes = []
    for name, item in results["configurations"].items():
        if "error" in item:
            notes.append(f"{name}: {item['error']}")
            continue
        rows += _rows(name, item)
        notes += [f"{name}: {left['backend']} {left['precision']}: {left['reason']}" for left in item["left_out"]]
    return [*_aligned(rows), *notes]


def _rows(name: str, item: Mapping[str, Any]) -> list[tuple[str, ...]]:
    accuracy, entries = item["accuracy"], item["backends"]
    ours = next(entry for entry in entries if entry["backend"] == OURS)
    right = "pass" if accuracy["met"] else f"FAIL > {accuracy['tolerance']:g}"
    first = (
        name,
        _number(accuracy["torch_rel_l2"], "{:.1e}"),
        _number(accuracy["golden_rel_l2"], "{:.1e}"),
        right,
        f"{ours['device_ms']['median']:.3f}",
        f"{ours['host_ms']['median']:.3f}",
        _number(ours["images_per_second"], "{:.0f}"),
    )
    if not item["comparisons"]:
        return [(*first, "", "", "")]
    rows = []
    for comparison in item["comparisons"]:
        precision = comparison["precision"]
        peers = [entry for entry in entries if entry["backend"] != OURS and entry["precision"] == precision]
        times = " ".join(f"{entry['backend']} {entry['device_ms']['median']:.3f}" for entry in peers)
        best = f"{comparison['ratio']:.2f}x {comparison['best_peer']}"
        goal = f"{'met' if comparison['met'] else 'missed'} {comparison['goal']:g}x"
        rows.append((*first, f"{precision}: {times}", best, goal))
        first = ("",) * len(first)
    return rows


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
