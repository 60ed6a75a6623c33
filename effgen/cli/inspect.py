"""`effgen inspect`: the stage table of a network, without compiling it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output
from effgen.cli.groups import grouped

if TYPE_CHECKING:
    from effgen.network.file_network import OnnxRequest


@grouped
def inspect(
    context: typer.Context,
    network: o.SpecOrFile,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Print a network's stages, or a file's operators, with their parameters, MACs and activation bytes."""
    output = Output(quiet, verbose, json)
    if network.onnx is not None:
        _inspect_file(output, network.of_file(context))
        return
    from effgen.network import baseline_of, build_network
    from effgen.network.inspection import inspect_network
    from effgen.report.inspect import (
        json_from_inspection,
        lines_from_baseline,
        notes_from_inspection,
        table_from_inspection,
    )

    request = network.of_spec()
    built = build_network(request)
    output.resolved(built)
    inspection = inspect_network(built, baseline_of(request))
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
