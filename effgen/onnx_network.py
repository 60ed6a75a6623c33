"""A network that someone else exported: an ONNX file as what `effgen compile` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effgen.errors import GraphError, VerifyError
from effgen.graph import Graph, Weights
from effgen.spec import InputSpec

if TYPE_CHECKING:
    from effgen.onnx_reader import OnnxFile

#: How far the graph as it was read may be from what onnxruntime computes with the file itself: relative L2.
READING_TOLERANCE = 1e-4


@dataclass(frozen=True)
class OnnxRequest:
    """A file, images a call where the file leaves that open, and how pixels are normalised (None: ImageNet's way)."""

    file: Path
    batch: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


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


@dataclass(frozen=True)
class Reading:
    """Whether the graph computes what the file says: by whom that was checked and how far apart the answers are
    (relative L2), or why it was not checked."""

    checked_by: str = ""
    rel_l2: float = 0.0
    not_checked: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest says of it."""
        if self.not_checked:
            return {"not_checked": self.not_checked}
        return {"checked_by": self.checked_by, "rel_l2": self.rel_l2}

    @property
    def agreement(self) -> str:
        """In words, of a file that was checked."""
        return f"agrees with the file by {self.checked_by}: relative L2 {self.rel_l2:.1e}"


def read_network(request: OnnxRequest) -> OnnxNetwork:
    """Read and simplify the file. Raises GraphError (one line) for what cannot be compiled."""
    from effgen.onnx_reader import graph_from_file, open_onnx

    if request.batch is not None and not 1 <= request.batch <= 4096:
        raise GraphError(f"--batch {request.batch}: expected from 1 to 4096 images")
    file = open_onnx(request.file, request.batch)
    graph, weights = graph_from_file(file)
    image, output = graph.input.shape, graph.values[graph.output].shape
    if len(image) != 4:
        raise GraphError(f"{request.file}: input {graph.input.name} has shape {image}: expected an image (N, C, H, W)")
    if len(output) != 2 or output[0] != image[0]:
        raise GraphError(f"{request.file}: output {graph.output} has shape {output}: expected (batch, classes)")
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


def check_reading(network: OnnxNetwork, image: NDArray[np.float32], expected: NDArray[np.float32]) -> Reading:
    """Hold `expected`, what PyTorch computes with the graph as it was read, to what the file itself says.

    Raises VerifyError where they disagree. `image` (N, C, H, W), logits (N, classes).
    """
    from effgen.verify import relative_l2

    try:
        import onnxruntime
    except ImportError:
        return Reading(not_checked="onnxruntime is not installed")
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(network.request.file), options, ["CPUExecutionProvider"])
        (found,) = session.run([network.file.output], {network.file.input.name: image})
    except Exception as error:  # onnxruntime's errors share no base of their own
        reason = " ".join(str(error).split())
        return Reading(not_checked=f"onnxruntime cannot run it: {reason[:120]}")
    difference = relative_l2(expected, found)
    if not difference <= READING_TOLERANCE:
        raise VerifyError(
            f"{network.request.file}: onnxruntime and the graph that was read disagree: relative L2 {difference:.2e}, "
            f"expected at most {READING_TOLERANCE:g}: the file was misread, or its answers hang on the last digits"
        )
    return Reading(f"onnxruntime {onnxruntime.__version__}", difference)
