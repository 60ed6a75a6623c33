"""`effgen tune`: measure schedules for a network's kernels on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output
from effgen.cli.groups import grouped

if TYPE_CHECKING:
    from effgen.tuning.tuner import Progress

#: Minutes of tuning where no limit is given.
DEFAULT_MINUTES = 10.0


@grouped
def tune(
    context: typer.Context,
    network: o.SpecOrFile,
    target: o.Target = "cpu",
    threads: o.Threads = None,
    trials: Annotated[int | None, typer.Option(metavar="N", help="Measure at most so many candidates.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="M", help=f"Tune at most so long; default: {DEFAULT_MINUTES:g}, or no limit with --trials."
        ),
    ] = None,
    db: o.Database = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what the database holds of these kernels on this machine.")
    ] = False,
    promote: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Merge what was found into the shipped records in this folder."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    engine: o.EngineOption = "effgen",
    measure: o.MeasureOption = None,
    rpc_tracker: o.RpcTracker = None,
    rpc_key: o.RpcKey = None,
    rpc_devices: o.RpcDevices = None,
    offline_out: o.OfflineOut = None,
    offline_in: o.OfflineIn = None,
    force: o.Force = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Search faster schedules for a network's kernels on this machine; effgen compile uses what was found.

    Nothing takes the place of what is used today unless the network, built with both and run in turn, is faster with it
    beyond the noise. Every candidate is recorded when it was measured: stop with Ctrl-C when you like, the next run
    goes on there.
    """
    output = Output(quiet, verbose, json)
    from effgen.measure.routes import RouteOptions
    from effgen.report.tune import (
        json_from_tune,
        line_from_progress,
        note_from_progress,
        notes_from_tune,
        table_from_tune,
        warnings_from_tune,
    )
    from effgen.tuning.request import TuneRequest, check_tune_request
    from effgen.tuning.session import tune_network
    from effgen.tuning.tuner import Limits

    if minutes is None and trials is None and offline_out is None and offline_in is None:
        minutes = DEFAULT_MINUTES
    request = TuneRequest(
        network=network.request(context, seed=True),
        target=target,
        limits=Limits(trials, None if minutes is None else minutes * 60),
        threads=threads,
        database=db,
        fresh=fresh,
        promote=promote,
        seed=seed,
        engine=engine,
        route=RouteOptions(measure, rpc_tracker, rpc_key, rpc_devices, offline_out, offline_in, force),
    )
    output.resolved(check_tune_request(request), target=target, threads=threads)
    with output.noted_phases() as (on_phase, note):

        def on_progress(progress: Progress) -> None:
            output.details([line_from_progress(progress)])
            note(note_from_progress(progress))

        report = tune_network(request, on_phase, on_progress)
    for warning in warnings_from_tune(report):
        output.warn(warning)
    notes = [Text(line) for line in notes_from_tune(report)]
    tables = [table_from_tune(report)] if report.trials or report.resumed else []  # nothing before a first round
    output.result([*tables, *notes], json_from_tune(report))
    if report.end == "interrupted":
        output.warn(
            f"stopped before the end: all {report.trials} candidates are kept in {report.database}, none is chosen yet"
        )
        raise KeyboardInterrupt  # one place decides what a signal says and which status it gives
