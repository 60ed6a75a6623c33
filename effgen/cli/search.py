"""`effgen search`: trials that several workers share. One file a search."""

from __future__ import annotations

import typer

from effgen.cli import search_scaling, search_status

app = typer.Typer(help="Search how to scale a network, by training and timing candidates.", no_args_is_help=True)
app.command("scaling")(search_scaling.scaling)
app.command("status")(search_status.status)
