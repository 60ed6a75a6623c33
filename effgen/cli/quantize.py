"""`effgen quantize`: a network with codes, as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output
from effgen.cli.groups import grouped


@grouped
def quantize(
    context: typer.Context,
    destination: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The .onnx file to write.")],
    network: o.AnyNetwork,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of typical pictures, in folders below it or not.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="Prepared images instead: float32 (N, C, H, W).")
    ] = None,
    images: Annotated[
        int, typer.Option(metavar="N", min=1, max=1024, help="Look at so many of them, spread evenly.")
    ] = 32,
    keep_float: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Layers that stay in float32, e.g. 'stages.6.*'; may be repeated."),
    ] = None,
    max_loss: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Keep more in float32 until the outputs differ by at most this, e.g. 3%."),
    ] = None,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKey = None,
    rename: o.Rename = None,
    seed: o.Seed = 0,
    force: o.Force = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Write a network whose layers compute with int8 codes, as ONNX (QDQ), by what a few dozen of its images show."""
    output = Output(quiet, verbose, json)
    from effgen.files.staging import check_file
    from effgen.network.model import resolve
    from effgen.quantization.loss import loss_from_text
    from effgen.quantization.request import QuantizeRequest, quantize_network
    from effgen.report.quantize import json_from_quantization, lines_from_quantization, table_from_quantization

    request = QuantizeRequest(
        network.request(context),
        destination,
        data,
        calibration,
        images,
        tuple(keep_float or ()),
        None if max_loss is None else loss_from_text(max_loss),
        weights,
        seed,
        force,
        o.weights_choice(weights_key, rename),
    )
    check_file(destination, force)
    resolved = resolve(request.network)
    output.resolved(resolved)
    with output.phases() as on_phase:
        files, found = quantize_network(request, resolved, on_phase)
    lines = [Text(line) for line in lines_from_quantization(found, files)]
    output.result([table_from_quantization(found), *lines], json_from_quantization(found, files))
