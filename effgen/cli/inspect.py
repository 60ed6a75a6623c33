"""`effgen inspect`: the stage table of a network, without compiling it."""

from __future__ import annotations

from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output


def inspect(
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
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Print a network's stages with their parameters, MACs and activation bytes."""
    output = Output(quiet, verbose, json)
    from effgen.inspection import inspect_network
    from effgen.network import build_network
    from effgen.report import json_from_inspection, notes_from_inspection, table_from_inspection

    network = build_network(
        o.network_request(spec, phi, law, width, depth, resolution, classes, batch, norm_eps, padding)
    )
    output.resolved(network)
    inspection = inspect_network(network)
    notes = [Text(note) for note in notes_from_inspection(inspection)]
    output.result([table_from_inspection(inspection), *notes], json_from_inspection(inspection))
