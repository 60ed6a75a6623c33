"""`effgen search`: trials that several workers share. One file a search."""

from __future__ import annotations

import typer

from effgen.cli import search_baseline, search_scaling, search_status

app = typer.Typer(help="Search networks, or how to scale one, by training and timing candidates.", no_args_is_help=True)
app.command("scaling")(search_scaling.scaling)
app.command("baseline")(search_baseline.baseline)
app.command("status")(search_status.status)
