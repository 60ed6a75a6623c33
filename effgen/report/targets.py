"""`effgen targets` as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from effgen.machines.abilities import Ability

_RUNS = {"native": "runs here", "emulated": "emulated here", "no": "runs elsewhere"}


def table_from_abilities(abilities: Sequence[Ability]) -> Table:
    """One line a target."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("target", "machine", "code for", "here", "measured"):
        table.add_column(column, no_wrap=column == "target")
    for ability in abilities:
        table.add_row(ability.name, ability.description, ability.compiles_for, _here(ability), ability.route)
    return table


def _here(ability: Ability) -> str:
    does = f"compiles, {_RUNS[ability.runs]}" if ability.builds else "does not compile"
    return f"{does}: {ability.why_not}" if ability.why_not else does


def json_from_abilities(abilities: Sequence[Ability]) -> dict[str, Any]:
    """The same for programs."""
    return {"targets": [asdict(ability) for ability in abilities]}
