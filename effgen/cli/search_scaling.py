"""`effgen search scaling`: alpha, beta and gamma for a baseline of your own."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli import search_options as s
from effgen.cli.console import Output
from effgen.cli.groups import grouped

if TYPE_CHECKING:
    from effgen.method.studies.scaling_report import ScalingReport
    from effgen.method.studies.scaling_search import ScalingRequest

_GRID = "Which candidates"


@grouped
def scaling(
    spec: o.Spec,
    learning: s.LearningOptions,
    phi: Annotated[float, typer.Option(help="The candidates have 2^phi times the multiply-adds.")] = 1.0,
    seeds: Annotated[int, typer.Option(metavar="N", help="Trainings of each candidate.")] = 3,
    confirm_seeds: Annotated[
        int, typer.Option(metavar="N", help="Further trainings of the best one and of single dimensions, to compare.")
    ] = 3,
    step: Annotated[float, typer.Option(help="Steps of alpha, beta and gamma.", rich_help_panel=_GRID)] = 0.1,
    tolerance: Annotated[
        float,
        typer.Option(help="How far alpha * beta^2 * gamma^2 may be from 2, as a share.", rich_help_panel=_GRID),
    ] = 0.05,
    macs_tolerance: Annotated[
        float,
        typer.Option(
            help="How far a candidate's multiply-adds may be from the goal, as a share.", rich_help_panel=_GRID
        ),
    ] = 0.05,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the spec with what was found.")
    ] = None,
    force: o.Force = False,
    target: o.Target = "cpu",
    threads: s.Threads = None,
    db: o.Database = None,
    rpc_tracker: o.RpcTracker = None,
    rpc_key: o.RpcKey = None,
    no_latency: Annotated[bool, typer.Option("--no-latency", help="Time nothing.")] = False,
    *,
    kept: s.WorkerOptions,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Find how to scale a baseline: train candidates of equal multiply-adds, compare compound with one dimension.

    Stop with Ctrl-C when you like: the same command goes on there. The same --storage and --study on more machines
    makes them one search.
    """
    console = Output(quiet, verbose, json)
    judge = learning.judge(kept.workers, threads)
    from effgen.files.staging import check_file
    from effgen.method.studies.grid import GridPlan
    from effgen.method.studies.latencies import LatencyRequest
    from effgen.method.studies.scaling_search import ScalingRequest

    if output is not None:
        check_file(output, force)
    name = kept.study or f"scaling-{Path(spec).stem}"
    url, folder = kept.kept_where(name)
    request = ScalingRequest(
        spec=spec,
        judge=judge,
        storage=url,
        study=name,
        folder=folder,
        phi=phi,
        grid=GridPlan(step, tolerance, macs_tolerance),
        seeds=seeds,
        confirm_seeds=confirm_seeds,
        latency=None if no_latency else LatencyRequest(target, threads, db, rpc_tracker, rpc_key),
        policy=kept.policy,
        retry_failed=kept.retry_failed,
    )
    report = _search(console, request, kept.workers, output, force)
    _print(console, report)
    if output is not None:
        console.info(f"wrote {output}; next: effgen compile --spec {output} --phi {phi:g}")


def _search(console: Output, request: ScalingRequest, workers: int, output: Path | None, force: bool) -> ScalingReport:
    from effgen.cli.search_workers import more_workers
    from effgen.method.studies.scaling_search import finish, help_search, open_search, train_all, write_chosen
    from effgen.report.scaling import details_from_grid, line_from_settled, lines_from_grid

    with console.phases() as on_phase:
        on_phase("look over data and candidates")
        search = open_search(request)
    with closing(search.shared):
        for line in lines_from_grid(search.grid, search.trainings):
            console.info(line)
        console.details(details_from_grid(search.grid))
        s.say_retried(console, search.retried)
        with more_workers(workers - 1, help_search, request):
            train_all(search, lambda settled: console.info(line_from_settled(settled)))
        with console.phases() as on_phase:
            report = finish(search, on_phase)
        if output is not None:
            write_chosen(search, report, output, force)
    return report


def _print(console: Output, report: ScalingReport) -> None:
    from effgen.report.scaling import json_from_scaling, notes_from_scaling, table_from_scaling, warning_from_scaling

    console.warn(warning_from_scaling(report))
    notes = [Text(note) for note in notes_from_scaling(report)]
    console.result([table_from_scaling(report), *notes], json_from_scaling(report))
