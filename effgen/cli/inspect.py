"""`effgen inspect`: the stage table of a network, without compiling it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output

if TYPE_CHECKING:
    from effgen.network.file_network import OnnxRequest


def inspect(
    context: typer.Context,
    spec: o.Spec = "efficientnet",
    phi: o.Phi = "0",
    law: o.LawOption = "published",
    width: o.Width = None,
    depth: o.Depth = None,
    resolution: o.Resolution = None,
    classes: o.Classes = None,
    batch: o.Batch = 1,
    norm_eps: o.NormEps = None,
    padding: o.PaddingOption = None,
    onnx: o.Onnx = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Print a network's stages, or a file's operators, with their parameters, MACs and activation bytes."""
    output = Output(quiet, verbose, json)
    if onnx is not None:
        _inspect_file(output, o.onnx_request(context, onnx, batch))
        return
    from effgen.network import baseline_of, build_network
    from effgen.network.inspection import inspect_network
    from effgen.report.inspect import (
        json_from_inspection,
        lines_from_baseline,
        notes_from_inspection,
        table_from_inspection,
    )

    request = o.network_request(spec, phi, law, width, depth, resolution, classes, batch, norm_eps, padding)
    network = build_network(request)
    output.resolved(network)
    inspection = inspect_network(network, baseline_of(request))
    notes = [Text(note) for note in (*lines_from_baseline(inspection), *notes_from_inspection(inspection))]
    output.result([table_from_inspection(inspection), *notes], json_from_inspection(inspection))


def _inspect_file(output: Output, request: OnnxRequest) -> None:
    from effgen.network.file_network import read_network
    from effgen.network.inspection import inspect_graph
    from effgen.report.inspect import notes_from_inspection
    from effgen.report.network import json_from_operators, table_from_operators

    network = read_network(request)
    output.resolved(network)
    inspection = inspect_graph(network.title, network.graph)
    notes = [Text(note) for note in notes_from_inspection(inspection)]
    output.result([table_from_operators(inspection), *notes], json_from_operators(inspection))
