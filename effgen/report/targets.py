"""`effgen targets` as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from effgen.machines.abilities import Ability

_RUNS = {"native": "runs here", "emulated": "emulated here", "no": "runs elsewhere"}


def table_from_abilities(abilities: Sequence[Ability], records: Mapping[str, Sequence[str]]) -> Table:
    """One line a target; `records`: names of the sets of tuning records that ship for it, the nearest first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("target", "machine", "code for", "here", "measured", "records"):
        table.add_column(column, no_wrap=column == "target")
    for ability in abilities:
        sets = ", ".join(records[ability.name])
        table.add_row(ability.name, ability.description, ability.compiles_for, _here(ability), ability.route, sets)
    return table


def _here(ability: Ability) -> str:
    does = f"compiles, {_RUNS[ability.runs]}" if ability.builds else "does not compile"
    return f"{does}: {ability.why_not}" if ability.why_not else does


def json_from_abilities(abilities: Sequence[Ability], records: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The same for programs."""
    return {"targets": [{**asdict(ability), "records": list(records[ability.name])} for ability in abilities]}
