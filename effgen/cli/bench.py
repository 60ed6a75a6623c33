"""`effgen bench`: how fast is the bundle, and beside what? With `--layers`: where does the time go?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output

if TYPE_CHECKING:
    from effgen.results.reports import BenchReport, Plan


def bench(
    bundle: o.Bundle,
    peers: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="More to measure: onnxruntime, openvino, executorch, iree, litert, mnn, ncnn, tvm, standalone; commas "
            "between.",
        ),
    ] = "",
    skip: Annotated[
        str, typer.Option(metavar="NAMES", help="Not to measure: pytorch, pytorch-channels-last, torch.compile.")
    ] = "",
    streams: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Images a second of N processes at once, each on its share of the cores, beside --peers run so, too.",
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Time each kernel instead, beside this machine's measured ceilings.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --layers: draw the roofline (.png, .svg, .pdf).")
    ] = None,
    threads: o.Threads = None,
    rpc_tracker: o.RpcTracker = None,
    rpc_key: o.RpcKey = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds in which all take turns.")] = 10,
    min_time: Annotated[
        float, typer.Option(min=0, max=3600, metavar="SECONDS", help="Timed seconds of each, over all rounds.")
    ] = 2.0,
    load: Annotated[
        int, typer.Option(min=0, max=1024, metavar="N", help="Beside so many processes that keep a CPU busy each.")
    ] = 0,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Measure a bundle's latency beside PyTorch (eager, channels-last, torch.compile) and other runtimes."""
    output = Output(quiet, verbose, json)
    from effgen.results.reports import Plan

    if load and (layers or rpc_tracker is not None):
        raise typer.BadParameter("--load is of this machine, and of whole calls: no --rpc-tracker, no --layers")
    plan = Plan(rounds, min_time, load)
    if streams is not None:
        if skip or layers or plot is not None or threads is not None or rpc_tracker is not None or rpc_key is not None:
            raise typer.BadParameter(
                "--streams shares out this machine's cores: no --threads, --layers, --plot, --skip or --rpc-tracker"
            )
        _streams(output, bundle, streams, peers, plan)
        return
    if rpc_tracker is not None or rpc_key is not None:
        if peers or skip or layers or plot is not None:
            raise typer.BadParameter("--rpc-tracker times the bundle alone: no --peers, --skip, --layers or --plot")
        _remote(output, bundle, threads, plan, rpc_tracker, rpc_key)
    elif layers:
        if peers or skip:
            raise typer.BadParameter("--layers measures no peers: leave out --peers and --skip")
        _layers(output, bundle, threads, plan, plot)
    elif plot is not None:
        raise typer.BadParameter("--plot draws the roofline of the kernels: add --layers")
    else:
        _peers(output, bundle, peers, skip, threads, plan)


def _remote(
    output: Output, bundle: Path, threads: int | None, plan: Plan, tracker: str | None, key: str | None
) -> None:
    from effgen.judge.bench_remote import bench_over_rpc
    from effgen.measure.routes import remote_of_bundle

    remote = remote_of_bundle(bundle, tracker, key)
    assert remote is not None  # a key without a tracker was refused
    with output.phases() as on_phase:
        report = bench_over_rpc(bundle, remote, threads, plan, on_phase)
    _print(output, report)


def _peers(output: Output, bundle: Path, peers: str, skip: str, threads: int | None, plan: Plan) -> None:
    from effgen.judge.bench import bench_bundle
    from effgen.judge.peers import peers_from_text

    chosen = peers_from_text(peers, skip)
    with output.phases() as on_phase:
        report = bench_bundle(bundle, chosen, threads, plan, on_phase)
    _print(output, report)


def _streams(output: Output, bundle: Path, streams: int, peers: str, plan: Plan) -> None:
    from effgen.judge.peers import names_from_text
    from effgen.judge.streams import bench_streams
    from effgen.report.streams import notes_from_streams, table_from_streams, warning_from_streams
    from effgen.results.reports import json_from_report

    with output.phases() as on_phase:
        report = bench_streams(bundle, streams, names_from_text(peers), plan, on_phase)
    output.warn(warning_from_streams(report))
    notes = [Text(note) for note in notes_from_streams(report)]
    output.result([table_from_streams(report), *notes], json_from_report(report))


def _print(output: Output, report: BenchReport) -> None:
    from effgen.report.bench import notes_from_bench, table_from_bench, warning_from_bench
    from effgen.results.reports import json_from_report

    output.warn(warning_from_bench(report))
    notes = [Text(note) for note in notes_from_bench(report)]
    output.result([table_from_bench(report), *notes], json_from_report(report))


def _layers(output: Output, bundle: Path, threads: int | None, plan: Plan, plot: Path | None) -> None:
    from effgen.judge.bench_layers import layers_of_bundle
    from effgen.report.layers import notes_from_layers, tables_from_layers, warning_from_layers
    from effgen.report.plots import check_plot, plot_roofline
    from effgen.results.reports import json_from_report

    if plot is not None:
        check_plot("--plot", plot)
    with output.phases() as on_phase:
        report = layers_of_bundle(bundle, threads, plan, on_phase)
    output.warn(warning_from_layers(report))
    if plot is not None:
        plot_roofline(report, plot)
    notes = [Text(note) for note in notes_from_layers(report)]
    output.result([*tables_from_layers(report), *notes], json_from_report(report))
