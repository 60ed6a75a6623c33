"""`effgen search baseline`: a better network around one of your own."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli import search_options as s
from effgen.cli.console import Output
from effgen.cli.groups import grouped

if TYPE_CHECKING:
    from effgen.method.studies.baseline_search import BaselineRequest
    from effgen.method.studies.front import BaselineReport

_SEARCH = "How is searched"


@grouped
def baseline(
    spec: o.Spec,
    learning: s.LearningOptions,
    trials: Annotated[
        int, typer.Option(metavar="N", help="Networks to try, over all workers.", rich_help_panel=_SEARCH)
    ] = 30,
    sampler: Annotated[
        Literal["tpe", "evolution"], typer.Option(help="What proposes networks.", rich_help_panel=_SEARCH)
    ] = "tpe",
    pruner: Annotated[
        Literal["median", "hyperband", "none"],
        typer.Option(help="What stops poor trainings early.", rich_help_panel=_SEARCH),
    ] = "median",
    population: Annotated[
        int,
        typer.Option(
            metavar="N", help="Networks around the start to begin with; a generation.", rich_help_panel=_SEARCH
        ),
    ] = 8,
    latency_target: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The reward's T; default: the start's latency.", rich_help_panel=_SEARCH),
    ] = None,
    exponent: Annotated[
        float, typer.Option(help="The w of the reward, accuracy x (latency / T)^w.", rich_help_panel=_SEARCH)
    ] = -0.07,
    seed: Annotated[int, typer.Option(min=0, help="Seed of search and trainings.", rich_help_panel=_SEARCH)] = 0,
    confirm_seeds: Annotated[
        int, typer.Option(min=0, max=1000, metavar="N", help="Train the front again with so many other seeds.")
    ] = 3,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write a spec of each network of the front, and a page."),
    ] = None,
    force: o.Force = False,
    target: o.Target = "cpu",
    threads: s.Threads = None,
    db: o.Database = None,
    *,
    kept: s.WorkerOptions,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Search MnasNet's space around a network for more accurate and faster ones: train, time, print the front.

    Stop with Ctrl-C when you like: the same command goes on there. The same --storage and --study on more machines of
    one kind makes them one search.
    """
    console = Output(quiet, verbose, json)
    judge = learning.judge(kept.workers, threads)
    from effgen.method.budget.limits import quantity_from_text
    from effgen.method.studies.baseline_search import BaselinePlan, BaselineRequest

    wanted = None if latency_target is None else quantity_from_text("latency", latency_target, "--latency-target")
    name = kept.study or f"baseline-{Path(spec).stem}"
    url, folder = kept.kept_where(name)
    request = BaselineRequest(
        spec=spec,
        judge=judge,
        storage=url,
        study=name,
        folder=folder,
        plan=BaselinePlan(trials, population, sampler, pruner, exponent, wanted, seed, confirm_seeds),
        target=target,
        threads=threads,
        database=db,
        policy=kept.policy,
        retry_failed=kept.retry_failed,
    )
    report = _search(console, request, kept.workers, output, force)
    _print(console, report)
    if output is not None:
        from effgen.report.front_folder import PAGE, write_front

        write_front(report, output, force)
        console.info(f"wrote {output}: open {output / PAGE}; next: effgen compile --spec {output}/NETWORK.toml")


def _search(
    console: Output, request: BaselineRequest, workers: int, output: Path | None, force: bool
) -> BaselineReport:
    from effgen.cli.search_workers import more_workers
    from effgen.method.studies.baseline import finish, help_baseline, search_and_confirm
    from effgen.method.studies.baseline_search import open_baseline_search
    from effgen.report.front_folder import check_front_folder
    from effgen.report.search import line_from_confirmation, line_from_trial, lines_from_search

    with closing(open_baseline_search(request)) as search:
        if output is not None:
            check_front_folder(output, force, search.shared.where)
        with console.phases() as on_phase:
            search.prepare(on_phase)
        for line in lines_from_search(search):
            console.info(line)
        s.say_retried(console, search.retried)
        with more_workers(workers - 1, help_baseline, request):
            members = search_and_confirm(
                search,
                lambda settled: console.info(line_from_trial(settled)),
                lambda settled: console.info(line_from_confirmation(settled)),
            )
        with console.phases() as on_phase:
            return finish(search, members, on_phase)


def _print(console: Output, report: BaselineReport) -> None:
    from effgen.report.search import json_from_search, notes_from_search, tables_from_search

    notes = [Text(note) for note in notes_from_search(report)]
    console.result([*tables_from_search(report), *notes], json_from_search(report))
