"""`effgen calibrate`: measure what the schedule rules count with on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output


def calibrate(
    toml: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.toml", help="Write the [costs] table for a target's file, too."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Keep the costs although other work disturbed the measurement.")
    ] = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Measure this machine's costs for the schedule rules, and keep them: compile, tune and fit use them from then on.

    Takes less than a minute, on one thread. Costs that no probe shows stay as they are; the table says which.
    """
    output = Output(quiet, verbose, json)
    from effgen.files.text import check_writable, write_text
    from effgen.judge.calibration import calibrate as measure
    from effgen.machines.calibrated import store_calibrated
    from effgen.report.calibrate import (
        json_from_calibration,
        lines_from_calibration,
        table_from_calibration,
        toml_from_calibration,
        warnings_from_calibration,
    )

    if toml is not None:
        check_writable("--output", toml)
    with output.noted_phases() as (on_phase, on_note):
        found = measure(on_phase, on_note)
    stored = store_calibrated(found.found) if force or not found.disturbed else None
    if toml is not None:
        write_text("--output", toml, toml_from_calibration(found))
    for warning in warnings_from_calibration(found, stored):
        output.warn(warning)
    lines = [Text(line) for line in lines_from_calibration(found, stored)]
    output.result([table_from_calibration(found), *lines], json_from_calibration(found, stored))
