"""A network that someone else exported: an ONNX file as what `effgen compile` takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effgen.errors import GraphError
from effgen.graph import Graph, Weights
from effgen.graph.sizes import AS_IT_IS, Sizes
from effgen.network.preparation import FileMetadata, PictureOptions, preparation_of_file, read_metadata
from effgen.runtime.picture import Preparation

if TYPE_CHECKING:
    from effgen.graph.onnx import OnnxFile


@dataclass(frozen=True)
class OnnxRequest:
    """A file, images a call where the file leaves that open, and what the user says of pictures; `outputs`: which of
    its tensors, none: all of its outputs; `sizes`: those of its input where it leaves them open."""

    file: Path
    batch: int | None = None
    pictures: PictureOptions = field(default_factory=PictureOptions)
    outputs: tuple[str, ...] = ()
    sizes: Sizes = AS_IT_IS


@dataclass(frozen=True)
class OnnxNetwork:
    """The file, and the graph and weights read from it; how pictures are prepared, and what its metadata says. `notes`:
    what is computed otherwise than the file has it; `reduced`: the file computes with fewer digits than float32."""

    request: OnnxRequest
    file: OnnxFile
    graph: Graph
    weights: Weights
    preparation: Preparation
    metadata: FileMetadata
    notes: tuple[str, ...] = ()
    reduced: bool = False

    @property
    def file_layout(self) -> str:
        """NHWC where the file takes its images channels last, else NCHW, as every bundle does."""
        return "NCHW" if self.graph.input.shape == self.file.input.shape else "NHWC"

    @property
    def title(self) -> str:
        """The file's name, without its suffix."""
        return self.request.file.stem

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest says of the network."""
        origin = {"origin": "onnx", "file": self.request.file.name, "sha256": self.file.sha256}
        facts = {"producer": self.file.producer, "opset": self.file.opset, "layout": self.file_layout, **origin}
        if self.metadata.source:
            facts["pictures_by"] = self.metadata.source
        if self.notes:
            facts["notes"] = list(self.notes)
        return {"onnx": facts, "weights": origin}


def read_network(request: OnnxRequest) -> OnnxNetwork:
    """Read and simplify the file. Raises GraphError (one line) for what cannot be compiled."""
    from effgen.graph.onnx import open_onnx, read_file

    if request.batch is not None and not 1 <= request.batch <= 4096:
        raise GraphError(f"--batch {request.batch}: expected from 1 to 4096 images")
    file = open_onnx(request.file, request.batch, request.outputs, request.sizes)
    understood = read_file(file)
    graph = understood.graph
    image = graph.input.shape
    if len(image) != 4:
        raise GraphError(f"{request.file}: input {graph.input.name} has shape {image}: expected an image (N, C, H, W)")
    for name in graph.outputs:
        if (shape := graph.values[name].shape)[:1] != image[:1]:
            leave_out = "; --outputs can leave it out" if len(graph.outputs) > 1 else ""
            raise GraphError(
                f"{request.file}: output {name} has shape {shape}: expected the batch, {image[0]}, first{leave_out}"
            )
    _, channels, height, width = image
    metadata = read_metadata(file.metadata, channels, graph.classes)
    preparation = preparation_of_file(str(request.file), channels, (height, width), request.pictures, metadata)
    return OnnxNetwork(
        request, file, graph, understood.weights, preparation, metadata, understood.notes, understood.reduced
    )


def names_from_text(text: str) -> tuple[str, ...]:
    """`--outputs p3,p4` -> the names. Raises GraphError where one is empty."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise GraphError(f"--outputs {text!r}: expected names of tensors with commas between")
    return names
