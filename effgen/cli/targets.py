"""`effgen targets`: which machines can be compiled for, and which of them run here?"""

from __future__ import annotations

from effgen.cli import options as o
from effgen.cli.console import Output


def targets(json: o.Json = None, quiet: o.Quiet = False, verbose: o.Verbose = False) -> None:
    """List the machines that effgen knows, and what this one can do with each: compile, run, emulate."""
    output = Output(quiet, verbose, json)
    from effgen.machines.abilities import abilities
    from effgen.records.shipped import shipped_names
    from effgen.report.targets import json_from_abilities, table_from_abilities
    from effgen.runtime.library import prepare_tvm

    prepare_tvm()
    found = abilities()
    records = {ability.name: shipped_names(ability.name) for ability in found}
    output.result([table_from_abilities(found, records)], json_from_abilities(found, records))
