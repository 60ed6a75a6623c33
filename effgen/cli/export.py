"""`effgen export`: a network as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from effgen.cli import options as o
from effgen.cli.console import Output
from effgen.cli.groups import grouped


@grouped
def export(
    destination: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The .onnx file to write.")],
    network: o.OfSpec,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKey = None,
    rename: o.Rename = None,
    seed: o.Seed = 0,
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="Fold batch norms into the convolutions before them.")
    ] = True,
    force: o.Force = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Write a network as ONNX, with its weights inside (beside it above 2 GB)."""
    output = Output(quiet, verbose)
    from effgen.driver import export_network
    from effgen.files.staging import check_file
    from effgen.network import build_network
    from effgen.report.compile import warnings_from_weights

    request = network.of_spec()
    resolved = build_network(request)
    check_file(destination, force)
    output.resolved(resolved)
    with output.phases() as on_phase:
        choice = o.weights_choice(weights_key, rename)
        files, model = export_network(request, destination, weights, seed, fold, force, on_phase, choice)
    for warning in warnings_from_weights(model.facts["weights"]):
        output.warn(warning)
    output.lines(map(str, files))
