"""`effgen fit`: the largest network of a family that keeps within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output
from effgen.cli.groups import grouped

_BUDGET = "Budget"
_PER_TARGET = "; TARGET=... for one of several targets"

Amounts = list[str] | None


@grouped
def fit(
    max_latency: Annotated[
        Amounts, typer.Option(metavar="20ms", help=f"Time of a call{_PER_TARGET}.", rich_help_panel=_BUDGET)
    ] = None,
    max_macs: Annotated[
        Amounts, typer.Option(metavar="1G", help="Multiply-adds for one image.", rich_help_panel=_BUDGET)
    ] = None,
    max_params: Annotated[
        Amounts, typer.Option(metavar="10M", help="Trainable parameters.", rich_help_panel=_BUDGET)
    ] = None,
    max_memory: Annotated[
        Amounts,
        typer.Option(
            metavar="64MB",
            help=f"Weights, activations, image and logits at run time{_PER_TARGET}.",
            rich_help_panel=_BUDGET,
        ),
    ] = None,
    max_size: Annotated[
        Amounts,
        typer.Option(metavar="25MB", help=f"Code and weights as shipped{_PER_TARGET}.", rich_help_panel=_BUDGET),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="The machine; several times: one network for all. Default: cpu."),
    ] = None,
    spec: o.Spec = "efficientnet",
    min_phi: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Not below it; default: the smallest network there is.")
    ] = None,
    max_phi: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Not above it; default: as far as phi goes.")
    ] = None,
    *,
    network: o.ToFit,
    threads: o.Threads = None,
    confirm: Annotated[
        bool, typer.Option("--confirm/--no-confirm", help="Compile and measure what is found, or trust predictions.")
    ] = True,
    min_time: Annotated[
        float, typer.Option(min=0, max=3600, metavar="SECONDS", help="Timed seconds of each network measured.")
    ] = 2.0,
    db: o.Database = None,
    rpc_tracker: o.RpcTracker = None,
    rpc_key: o.RpcKey = None,
    destination: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the network as a spec of its own (.toml)."),
    ] = None,
    force: o.Force = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Find the largest phi whose network keeps within limits of latency, multiply-adds, parameters, memory and size.

    Depth, width and resolution grow together, by the formula. What is found is compiled and measured.
    """
    output = Output(quiet, verbose, json)
    from effgen.method.budget.fit import FitRequest, check_fit_request, fit
    from effgen.method.budget.limits import KINDS, limits_from_texts
    from effgen.method.budget.sites import SiteOptions
    from effgen.network.spec_file import as_baseline, check_spec_file, write_spec
    from effgen.report.fit import comment_from_fit, json_from_fit, notes_from_fit, table_from_fit, warning_from_fit
    from effgen.results.reports import Plan

    targets = target or ["cpu"]
    amounts = (max_latency, max_macs, max_params, max_memory, max_size)
    limits = [
        limit
        for kind, texts in zip(KINDS, amounts, strict=True)
        for limit in limits_from_texts(kind, texts or [], targets)
    ]
    if not limits:
        raise typer.BadParameter(
            "a budget is missing: give one or more of " + ", ".join(f"--max-{kind}" for kind in KINDS)
        )
    if destination is not None:
        check_spec_file(destination, force)
    request = FitRequest(
        limits=tuple(limits),
        spec=spec,
        targets=tuple(targets),
        batch=network.batch,
        overrides=network.of_spec().overrides,
        min_phi=min_phi,
        max_phi=max_phi,
        site=SiteOptions(threads, db, confirm, Plan(min_time_s=min_time), rpc_tracker, rpc_key),
    )
    check_fit_request(request)
    with output.phases() as on_phase:
        report = fit(request, on_phase)
    output.warn(warning_from_fit(report))
    if destination is not None:
        write_spec(as_baseline(report.scaled), destination, force, comment_from_fit(report))
    output.result([table_from_fit(report), *map(Text, notes_from_fit(report))], json_from_fit(report))
