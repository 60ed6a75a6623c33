"""`effgen bench`: how fast is the bundle, and beside what?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output


def bench(
    bundle: o.Bundle,
    peers: Annotated[
        str, typer.Option(metavar="NAMES", help="More to measure, with commas between: onnxruntime, openvino.")
    ] = "",
    skip: Annotated[
        str, typer.Option(metavar="NAMES", help="Not to measure: pytorch, pytorch-channels-last, torch.compile.")
    ] = "",
    threads: o.Threads = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds in which all take turns.")] = 10,
    min_time: Annotated[
        float, typer.Option(min=0, max=3600, metavar="SECONDS", help="Timed seconds of each, over all rounds.")
    ] = 2.0,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Measure a bundle's latency beside PyTorch (eager, channels-last, torch.compile) and other runtimes."""
    output = Output(quiet, verbose, json)
    from effgen.bench import Plan, bench_bundle
    from effgen.peers import peers_from_text
    from effgen.report import json_from_bench, notes_from_bench, table_from_bench, warning_from_bench

    chosen = peers_from_text(peers, skip)
    with output.phases() as on_phase:
        report = bench_bundle(bundle, chosen, threads, Plan(rounds, min_time), on_phase)
    output.warn(warning_from_bench(report))
    notes = [Text(note) for note in notes_from_bench(report)]
    output.result([table_from_bench(report), *notes], json_from_bench(report))
