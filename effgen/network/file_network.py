"""A network that someone else exported: an ONNX file as what `effgen compile` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from effgen.errors import GraphError
from effgen.graph import Graph, Weights
from effgen.network.spec import InputSpec

if TYPE_CHECKING:
    from effgen.graph.onnx import OnnxFile


@dataclass(frozen=True)
class OnnxRequest:
    """A file, images a call where the file leaves that open, and how pixels are normalised (None: ImageNet's way);
    `outputs`: which of its tensors, none: all of its outputs."""

    file: Path
    batch: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class OnnxNetwork:
    """The file, and the graph and weights read from it."""

    request: OnnxRequest
    file: OnnxFile
    graph: Graph
    weights: Weights
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def title(self) -> str:
        """The file's name, without its suffix."""
        return self.request.file.stem

    @property
    def framing(self) -> dict[str, Any]:
        """How a picture is prepared, which an ONNX file does not say: as usual for ImageNet, the middle seven eighths
        of a square (256 -> 224, 342 -> 299); empty where the image is no square."""
        height, width = self.graph.input.shape[2:]
        if height != width:
            return {}
        return {"resize": round(height * 8 / 7), "crop": height, "interpolation": "bilinear"}

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest says of the network."""
        origin = {"origin": "onnx", "file": self.request.file.name, "sha256": self.file.sha256}
        return {"onnx": {"producer": self.file.producer, "opset": self.file.opset, **origin}, "weights": origin}


def read_network(request: OnnxRequest) -> OnnxNetwork:
    """Read and simplify the file. Raises GraphError (one line) for what cannot be compiled."""
    from effgen.graph.onnx import graph_from_file, open_onnx

    if request.batch is not None and not 1 <= request.batch <= 4096:
        raise GraphError(f"--batch {request.batch}: expected from 1 to 4096 images")
    file = open_onnx(request.file, request.batch, request.outputs)
    graph, weights = graph_from_file(file)
    image = graph.input.shape
    if len(image) != 4:
        raise GraphError(f"{request.file}: input {graph.input.name} has shape {image}: expected an image (N, C, H, W)")
    for name in graph.outputs:
        if (shape := graph.values[name].shape)[:1] != image[:1]:
            leave_out = "; --outputs can leave it out" if len(graph.outputs) > 1 else ""
            raise GraphError(
                f"{request.file}: output {name} has shape {shape}: expected the batch, {image[0]}, first{leave_out}"
            )
    mean, std = _normalisation(request, image[1])
    return OnnxNetwork(request, file, graph, weights, mean, std)


def _normalisation(request: OnnxRequest, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    usual = InputSpec(resolution=1)
    three = channels == len(usual.mean)
    mean = request.mean or (tuple(usual.mean) if three else (0.0,) * channels)
    std = request.std or (tuple(usual.std) if three else (1.0,) * channels)
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) != channels:
            text = ",".join(f"{value:g}" for value in values)
            raise GraphError(f"{option} {text}: the image of {request.file} has {channels} channels; expected as many")
    return mean, std


def names_from_text(text: str) -> tuple[str, ...]:
    """`--outputs p3,p4` -> the names. Raises GraphError where one is empty."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise GraphError(f"--outputs {text!r}: expected names of tensors with commas between")
    return names


def numbers_from_text(option: str, text: str) -> tuple[float, ...]:
    """`0.485,0.456,0.406` -> the numbers. Raises GraphError for what is none; --std must be above 0."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (float("nan"),)
    if not all(np.isfinite(numbers)) or (option == "--std" and min(numbers) <= 0):
        above = " above 0" if option == "--std" else ""
        raise GraphError(f"{option} {text}: expected numbers{above} with commas between, one a channel")
    return numbers
