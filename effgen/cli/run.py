"""`effgen run`: what is in the pictures?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from effgen.cli import options as o
from effgen.cli.console import Output


def run(
    bundle: o.Bundle,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Files; folders, with those below; - is a picture on standard input."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes to print, the likeliest first.")] = 5,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The classes' names, one a line; default: the bundle's.")
    ] = None,
    threads: o.BundleThreads = None,
    throughput: Annotated[
        bool, typer.Option("--throughput", help="As many images at once as there are threads, each on one thread.")
    ] = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Classify pictures: resize, crop and normalisation as the bundle says, the likeliest classes of each.

    A picture that cannot be read, or a folder without one, is reported and the others go on; exit status 1 in the end.
    """
    output = Output(quiet, verbose, json)
    from effgen.report.run import json_from_run, line_from_speed, lines_from_answer
    from effgen.runtime.run import Answer, RunRequest, run_bundle

    def show(answer: Answer) -> None:
        output.lines(lines_from_answer(answer))
        if answer.error is not None:
            output.problem(answer.error)

    report = run_bundle(RunRequest(bundle, tuple(images), top, labels, threads, throughput), show)
    output.result([], json_from_run(report))
    if throughput:
        output.lines([line_from_speed(report)])
    elif len(report.answers) > 1:
        output.info(line_from_speed(report))
    if report.errors:  # each was printed
        raise typer.Exit(1)
