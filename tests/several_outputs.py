"""Networks that are no classifiers: a feature pyramid, two heads, one image; as ONNX files."""

from __future__ import annotations

from pathlib import Path

from compiling import builder, conv, random_weights

from effgen.graph import Graph
from effgen.graph.onnx.write import onnx_from_graph, save_onnx


def pyramid() -> Graph:
    """Three images; the first has as many channels as rows and columns, the second is read by what makes the third."""
    b = builder(batch=2, channels=3, size=32)
    body = b.add("Relu", [conv(b, "x", 16, "body", kernel=3, stride=2)], "relu")
    second = conv(b, body, 12, "p2", kernel=3, stride=2)
    return b.finish(conv(b, body, 16, "p1"), second, conv(b, second, 8, "p3", kernel=3, stride=2))


def heads() -> Graph:
    """Classes, boxes, and the features of both twice: as an image of one pixel and as a vector."""
    b = builder(batch=2, channels=3, size=16)
    image = b.add("GlobalAveragePool", [conv(b, conv(b, "x", 8, "stem", 3, 2), 24, "body", 3)], "pool")
    vector = b.add("Flatten", [image], "vector", axis=1)
    weights = [b.parameter(f"{name}.weight", (size, 24), "kernel") for name, size in (("a", 10), ("b", 4))]
    classes = b.add("Gemm", [vector, weights[0]], "classes", transB=1)
    boxes = b.add("Sigmoid", [b.add("Gemm", [vector, weights[1]], "raw", transB=1)], "boxes")
    return b.finish(classes, boxes, vector, image)


def mask() -> Graph:
    """One image."""
    b = builder(channels=3, size=12)
    return b.finish(b.add("Sigmoid", [conv(b, conv(b, "x", 8, "stem", 3), 2, "scores", 3)], "mask"))


def saved(graph: Graph, path: Path) -> Path:
    """The file of the graph, with random weights."""
    save_onnx(onnx_from_graph(graph, random_weights(graph)), path)
    return path
