"""`effgen eval`: how often is the bundle right about pictures?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output


def eval_(
    bundle: o.Bundle,
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Pictures, one folder a class; without such folders only agreement.")
    ],
    images: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Look at so many, spread evenly; default: all.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE2", help="Agree with this float32 network instead: what BUNDLE's codes cost."),
    ] = None,
    threads: o.BundleThreads = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Classify a labelled folder: top-1, top-5, agreement with PyTorch, the classes with most errors. Nothing is timed.

    Folders are classes by the bundle's labels, as class numbers, or in the order of their names.
    """
    output = Output(quiet, verbose, json)
    from effgen.judge.evaluate import EvalRequest, evaluate_bundle
    from effgen.report.evaluate import json_from_eval, notes_from_eval, tables_from_eval

    with output.noted_phases() as (on_phase, on_note):
        report = evaluate_bundle(EvalRequest(bundle, data, images, against, threads), on_phase, on_note)
    notes = [Text(note) for note in notes_from_eval(report)]
    output.result([*tables_from_eval(report), *notes], json_from_eval(report))
