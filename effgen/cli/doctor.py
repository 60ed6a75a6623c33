"""`effgen doctor`: is the installation in order?"""

from __future__ import annotations

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output


def doctor(json: o.Json = None, quiet: o.Quiet = False, verbose: o.Verbose = False) -> None:
    """Check pins, compilers, threads and instruction sets; exit status 1 where something stops effgen from working."""
    output = Output(quiet, verbose, json)
    from effgen.judge.doctor import examine
    from effgen.report.bench import host_line
    from effgen.report.doctor import json_from_doctor, table_from_doctor

    with output.phases() as on_phase:
        report = examine(on_phase)
    output.result([table_from_doctor(report), Text(host_line(report.machine))], json_from_doctor(report))
    if not report.healthy:
        raise typer.Exit(1)
