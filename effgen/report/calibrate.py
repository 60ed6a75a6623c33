"""What `effgen calibrate` prints: every cost, whose it is, and the table as a target's file takes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from effgen.report.tables import numbers_table

if TYPE_CHECKING:  # a command loads only what it reports on
    from effgen.judge.calibration import Calibration


def table_from_calibration(calibration: Calibration) -> Table:
    """One row a cost: what it was, what it is now, and why."""
    table = numbers_table("costs of the schedule rules", ("cost", "source", "before", "now"), left=2)
    before, now = calibration.inherited.model_dump(), calibration.table.model_dump()
    for name, value in now.items():
        source = _source(calibration, name)
        shown = Text(source, style="" if source == "measured" else "dim")
        table.add_row(name, shown, text_of_cost(before[name]), text_of_cost(value))
    return table


def lines_from_calibration(calibration: Calibration, stored: Path | None) -> list[str]:
    """The clock, how long it took, where it is kept."""
    found = calibration.found
    other = "" if found.other_cpus is None else f", {found.other_cpus:.1f} CPUs of other work"
    machine = f"{found.cpu} ({found.microarchitecture or 'unknown'}), {8 * found.vector_bytes}-bit vectors"
    unit = f"a vector's multiply-add every {found.multiply_add_cycles:.2f} cycles, which is the unit"
    return [
        f"{machine}: {found.clock_ghz:.2f} GHz, {unit}; {calibration.seconds:.0f} s{other}",
        f"kept in {stored}" if stored else "not kept",
    ]


def warnings_from_calibration(calibration: Calibration, stored: Path | None) -> list[str]:
    """Other work, and figures that no processor has."""
    found = [
        f"{name}: measured {value:.3g}, which no processor has: keeps the inherited value"
        for name, value in calibration.rejected.items()
    ]
    if calibration.disturbed:
        end = "kept all the same (--force)" if stored else "not kept; run it on a quiet machine, or give --force"
        found.append(f"{calibration.found.other_cpus:.1f} CPUs of other work while it measured: {end}")
    return found


def json_from_calibration(calibration: Calibration, stored: Path | None) -> dict[str, Any]:
    """What was measured, the whole table, and which cost is from where."""
    table = calibration.table.model_dump()
    return {
        **calibration.found.model_dump(exclude={"costs"}),
        "seconds": calibration.seconds,
        "disturbed": calibration.disturbed,
        "stored": None if stored is None else str(stored),
        "costs": table,
        "sources": {name: _source(calibration, name) for name in table},
        "rejected": dict(calibration.rejected),
        "tiles": [asdict(tile) for tile in calibration.tiles],
    }


def toml_from_calibration(calibration: Calibration) -> str:
    """The `[costs]` table for a target's file: what was measured; the rest is inherited there as it is here."""
    return "\n".join(_toml_lines(calibration)) + "\n"


def _toml_lines(calibration: Calibration) -> Iterator[str]:
    found, now = calibration.found, calibration.table.model_dump()
    where = f"{_comment(found.cpu)} ({found.microarchitecture or 'unknown'})"
    beside = "" if found.other_cpus is None else f", beside {found.other_cpus:.1f} CPUs of other work"
    yield f"# Measured by effgen calibrate on {where}, {found.date[:10]}{beside}."
    yield f"# For vectors of {found.vector_bytes} bytes. What is not stated here is inherited."
    yield "[costs]"
    yield from (f"{name} = {text_of_cost(now[name])}" for name in now if name in calibration.measured)


def _comment(text: str) -> str:
    """A name that anything may stand in, on one line of a comment."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _source(calibration: Calibration, name: str) -> str:
    if name in calibration.measured:
        return "measured"
    return "inherited: measured an impossible value" if name in calibration.rejected else "inherited"


def text_of_cost(value: float | bool) -> str:
    """A cost as TOML has it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
