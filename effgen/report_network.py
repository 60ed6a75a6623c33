"""What a request came to, in words, before the work starts."""

from __future__ import annotations

from effgen.network import Network
from effgen.onnx_network import OnnxNetwork
from effgen.report import threads_text


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
        f"{network.title}: width {by.width:.4g}, depth {by.depth:.4g}, resolution {by.resolution} ({by.source})",
        f"batch {network.graph.batch}, {spec.classifier.classes} classes, "
        f"batch-norm eps {spec.norm.eps:g}, {spec.padding} padding",
    ]


def _lines_from_file(network: OnnxNetwork) -> list[str]:
    graph, file = network.graph, network.file
    image, output = ("x".join(map(str, graph.values[name].shape)) for name in (graph.input.name, graph.output))
    return [
        f"{file.path}: written by {file.producer}, opset {file.opset}, {len(file.model.graph.node)} operators",
        f"{graph.input.name} {image} -> {graph.output} {output}, {len(graph.nodes)} operators as simplified",
    ]


def warning_from_network(network: Network | OnnxNetwork) -> str:
    """What a user who asked for published coefficients should know: that there were none; empty otherwise."""
    if not isinstance(network, Network):
        return ""
    if network.coefficients.law == network.request.law or not network.spec.scaling.published:
        return ""
    return f"phi {network.request.phi} has no published row: scaled by the formula"
