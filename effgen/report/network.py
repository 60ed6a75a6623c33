"""What a request came to, in words, before the work starts; and what the operators of a file cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from effgen.network import Network
from effgen.network.file_network import OnnxNetwork
from effgen.report.tables import numbers_table
from effgen.report.text import bytes_text, sides_text, threads_text

if TYPE_CHECKING:
    from rich.table import Table

    from effgen.network.inspection import GraphInspection


def lines_from_network(network: Network | OnnxNetwork, target: str | None, threads: int | None) -> list[str]:
    """The resolved request: coefficients and their source, what spec or file gives, and what is compiled for."""
    lines = _lines_from_spec(network) if isinstance(network, Network) else _lines_from_file(network)
    if target is not None:
        count = threads_text(threads) if threads else "a thread for each of its cores"
        lines.append(f"target {target}, {count}")
    return lines


def _lines_from_spec(network: Network) -> list[str]:
    by, spec = network.coefficients, network.spec
    return [
        f"{network.title}: width {by.width:.4g}, depth {by.depth:.4g}, resolution {sides_text(*spec.input.size)} "
        f"({by.source})",
        f"batch {network.graph.batch}, {spec.classifier.classes} classes, "
        f"batch-norm eps {spec.norm.eps:g}, {spec.padding} padding{_ends_by_hand(network)}",
    ]


def _ends_by_hand(network: Network) -> str:
    asked = network.request.overrides
    ends = {"stem": asked.stem_channels, "head": asked.head_channels}
    return "".join(f", {end} of {channels} channels by hand" for end, channels in ends.items() if channels is not None)


def _lines_from_file(network: OnnxNetwork) -> list[str]:
    graph, file = network.graph, network.file
    image, *outputs = (
        f"{name} {'x'.join(map(str, graph.values[name].shape))}" for name in (graph.input.name, *graph.outputs)
    )
    return [
        f"{file.path}: written by {file.producer}, opset {file.opset}, {len(file.model.graph.node)} operators",
        f"{image} -> {', '.join(outputs)}, {len(graph.nodes)} operators as simplified",
        _line_from_pictures(network),
        *network.notes,
        *([_TURNED] if network.file_layout == "NHWC" else []),
    ]


#: Of a file that begins with a transposition of its images.
_TURNED = "the file takes images channels last (NHWC), what is compiled takes NCHW, and from Python either"


def _line_from_pictures(network: OnnxNetwork) -> str:
    """How a picture becomes the image, and who says so."""
    how = network.preparation
    if how.channels not in (1, 3):
        return f"pictures: none, since the image has {how.channels} channels"
    order = how.channel_order.upper() if how.channels == 3 else "grey"
    size, box = sides_text(*how.size), sides_text(*how.covered)
    framed = {
        "crop": f"{size} out of the middle of {box}",
        "stretch": f"stretched to {size}",
        "letterbox": f"fitted into {size}, bars of {','.join(map(str, how.fill))}",
    }[how.fit]
    mean, std = (",".join(f"{value:.4g}" for value in values) for values in (how.mean, how.std))
    by = " and ".join(filter(None, ("options" if network.request.pictures.given else "", network.metadata.source)))
    source = f"by {by}" if by else "as is usual; --mean, --std, --fit say otherwise"
    return f"pictures: {order} 0..{how.pixel_range}, {framed}, {how.interpolation}, mean {mean}, std {std} ({source})"


def warning_from_network(network: Network | OnnxNetwork) -> str:
    """What a user who asked for published coefficients should know: that there were none; empty otherwise."""
    if not isinstance(network, Network):
        return ""
    if network.coefficients.law == network.request.law or not network.spec.scaling.published:
        return ""
    return f"phi {network.request.phi} has no published row: scaled by the formula"


def table_from_operators(inspection: GraphInspection) -> Table:
    """A file's operators with their totals."""
    image = "x".join(map(str, inspection.image))
    columns = ("operator", "count", "parameters", "multiply-adds", "activations")
    table = numbers_table(f"{inspection.model}, {image}, batch {inspection.batch}", columns, left=1)
    for row in inspection.operators:
        counts = (f"{row.count}", f"{row.parameters:,}", f"{row.macs:,}")
        table.add_row(row.operator, *counts, bytes_text(row.activation_bytes))
    table.add_section()
    count = sum(row.count for row in inspection.operators)
    totals = (f"{count}", f"{inspection.parameters:,}", f"{inspection.macs:,}")
    table.add_row("total", *totals, bytes_text(inspection.activation_bytes), style="bold")
    return table


def json_from_operators(inspection: GraphInspection) -> dict[str, Any]:
    """Keys as the fields of `GraphInspection` and `OperatorRow`."""
    return asdict(inspection)
