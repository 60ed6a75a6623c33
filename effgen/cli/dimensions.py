"""`effgen dimensions`: one dimension against all, the paper's Tables 3 and 7 or a spec at equal multiply-adds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output

if TYPE_CHECKING:
    from effgen.method.budget.dimensions import TablePlan

_DEFAULT_FACTOR = 2.0

#: Options that say how latency is measured, by parameter.
_OF_LATENCY = {
    "target": "--target",
    "threads": "--threads",
    "database": "--db",
    "rounds": "--rounds",
    "min_time": "--min-time",
}


def dimensions(
    context: typer.Context,
    table: Annotated[
        Literal["3", "7", "all"] | None, typer.Option(help="Which of the paper's tables; default: all.")
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Instead of them: a family, or a .toml file of your own, scaled in each way to equal multiply-adds.",
        ),
    ] = None,
    factor: Annotated[
        float | None, typer.Option(help="With --spec: times the baseline's multiply-adds; default: 2.")
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency/--no-latency", help="Compile the networks and time them, or only count.")
    ] = True,
    target: o.Target = "cpu",
    threads: o.Threads = None,
    database: o.Database = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds in which a family's networks take turns.")] = 10,
    min_time: Annotated[
        float, typer.Option(min=0, max=3600, metavar="SECONDS", help="Timed seconds of each network, over all rounds.")
    ] = 2.0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw latency and published accuracy over multiply-adds (.png, .svg, .pdf)."),
    ] = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Compare depth, width and resolution alone with all of them together: multiply-adds, parameters, latency."""
    output = Output(quiet, verbose, json)
    _check(table, spec, factor, latency, plot)
    if not latency:
        _check_counting(context)
    from effgen.method.budget.dimensions import TimingOptions, compare_dimensions
    from effgen.report.dimensions import (
        json_from_dimensions,
        notes_from_dimensions,
        tables_from_dimensions,
        warning_from_dimensions,
    )
    from effgen.results.reports import Plan

    timing = TimingOptions(target, threads, Plan(rounds, min_time), database) if latency else None
    comparisons = _comparisons(table, spec, factor)
    with output.phases() as on_phase:
        report = compare_dimensions(comparisons, timing, on_phase)
    output.warn(warning_from_dimensions(report))
    if plot is not None:
        from effgen.report.plots import plot_dimensions

        plot_dimensions(report, plot)
    notes = [Text(note) for note in notes_from_dimensions(report)]
    output.result([*tables_from_dimensions(report), *notes], json_from_dimensions(report))


def _check(table: str | None, spec: str | None, factor: float | None, latency: bool, plot: Path | None) -> None:
    """Refuse options that exclude each other, and a picture that cannot be written."""
    if spec is not None and table is not None:
        raise typer.BadParameter("--table is one of the paper's, --spec a comparison of its own: leave one of them out")
    if spec is None and factor is not None:
        raise typer.BadParameter("--factor is of --spec: the paper's tables have their own factors")
    if plot is not None:
        if spec is not None and not latency:
            raise typer.BadParameter("--plot: of a --spec only latency can be drawn: leave out --no-latency")
        from effgen.report.plots import check_plot

        check_plot("--plot", plot)


def _check_counting(context: typer.Context) -> None:
    """Refuse options that say how to measure what is not measured."""
    unused = [option for name, option in _OF_LATENCY.items() if o.is_given(context, name)]
    if unused:
        raise typer.BadParameter(f"{', '.join(unused)}: nothing is measured; leave out --no-latency, or them")


def _comparisons(
    table: Literal["3", "7", "all"] | None, spec: str | None, factor: float | None
) -> tuple[TablePlan, ...]:
    from effgen.method.budget.dimensions import equal_macs_comparison, paper_comparisons

    if spec is not None:
        return (equal_macs_comparison(spec, _DEFAULT_FACTOR if factor is None else factor),)
    return paper_comparisons(("3", "7") if table is None or table == "all" else (table,))
