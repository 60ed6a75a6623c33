"""An ONNX file, opened: what it is, and whether it is of a kind that can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import onnx
from onnx import TensorProto, inliner

from effgen.errors import GraphError, candidates
from effgen.files.contents import ONNX, kind_of_file
from effgen.graph import Value
from effgen.graph.ops import Shape
from effgen.graph.sizes import AS_IT_IS, Sizes
from effgen.runtime.manifest import sha256_of

#: The oldest opset whose operators are understood.
OLDEST_OPSET = 7

#: What the domain of ONNX's own operators is called.
STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxFile:
    """A model as loaded, external data included; `input` has the batch that was asked for. `outputs`: those asked for,
    in that order, and then the model has no node that they do not need."""

    path: Path
    model: onnx.ModelProto
    opset: int
    input: Value
    outputs: tuple[str, ...]

    @property
    def producer(self) -> str:
        """Program and version that wrote the file, as far as it says."""
        return " ".join(part for part in (self.model.producer_name, self.model.producer_version) if part) or "unknown"

    def for_others(self) -> str | bytes:
        """What another runtime computes `outputs` with: the file's path, or a model where tensors inside are asked for,
        which the file does not give."""
        given = [info for info in self.model.graph.output if info.name in self.outputs]
        if len(given) == len(self.outputs):
            return str(self.path)
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        inner = set(self.outputs) - {info.name for info in given}
        del model.graph.output[:]
        model.graph.output.extend([*given, *(onnx.ValueInfoProto(name=name) for name in inner)])
        serialised: bytes = model.SerializeToString()
        return serialised

    @property
    def metadata(self) -> dict[str, str]:
        """Text by key, for those who use the file."""
        return {entry.key: entry.value for entry in self.model.metadata_props}

    @property
    def sha256(self) -> str:
        """Of the file itself; external data lies beside it."""
        return sha256_of(self.path)


def open_onnx(path: Path, batch: int | None = None, outputs: tuple[str, ...] = (), sizes: Sizes = AS_IT_IS) -> OnnxFile:
    """Load `path`; a symbolic batch becomes `batch`, or 1, other open sizes what `sizes` says. `outputs`: which of its
    outputs, or of the tensors that its nodes compute; none: all of its outputs.

    Raises GraphError (one line): no readable model, an opset that is too old or too new, several inputs, no output, or
    none of a name asked for, an input that is no float32 tensor of static shape, or whose own batch is another.
    """
    model = _load(path)
    try:
        opset = _opset(model)
        initialised = {tensor.name for tensor in model.graph.initializer}
        image = _only("input", [info for info in model.graph.input if info.name not in initialised])
        chosen = _outputs(model.graph, outputs)
        if outputs:
            _keep_needed(model.graph, chosen)
        return OnnxFile(path, model, opset, Value(image.name, _shape(image, batch, sizes)), chosen)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from None


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except OSError as error:
        raise GraphError(f"{path}: cannot read the model: {error.strerror or error}") from None
    except Exception as error:  # protobuf's DecodeError and onnx's ValidationError share no base of their own
        reason = f"not a readable ONNX model: {' '.join(str(error).split())}"
        raise GraphError(f"{path}: {_another_kind(path) or reason}") from None
    if not model.graph.node:
        raise GraphError(f"{path}: {_another_kind(path) or 'not a readable ONNX model: it has no operators'}")
    return inliner.inline_local_functions(model) if model.functions else model


def _another_kind(path: Path) -> str:
    """What the file is instead of a model, empty where it looks like one or like nothing known."""
    kind = kind_of_file(path)
    return "" if kind is None or kind is ONNX else f"is {kind}"


def _opset(model: onnx.ModelProto) -> int:
    found = max((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), default=0)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= found <= newest:
        raise GraphError(f"opset {found}: expected {OLDEST_OPSET} to {newest}; export it again with one of these")
    return found


def _only(what: str, found: list[onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    if len(found) != 1:
        names = ", ".join(info.name for info in found) or "none"
        raise GraphError(f"expected one {what}, found {names}")
    return found[0]


def _outputs(graph: onnx.GraphProto, asked: tuple[str, ...]) -> tuple[str, ...]:
    own = [info.name for info in graph.output]
    inner = {name for node in graph.node for name in node.output if name}
    for name in asked:
        if name not in inner and name not in own:
            near = get_close_matches(name, inner, n=1)
            hint = f"did you mean {near[0]}? " if near and near[0] not in own else ""
            raise GraphError(f"--outputs {name}: no tensor of that name; {hint}{candidates(name, own)}")
    if twice := [name for name, count in Counter(asked).items() if count > 1]:
        raise GraphError(f"--outputs {','.join(asked)}: {twice[0]} is there twice")
    if not own:
        raise GraphError("expected an output, found none")
    return asked or tuple(own)


def _keep_needed(graph: onnx.GraphProto, outputs: tuple[str, ...]) -> None:
    """Leave out the nodes that these outputs do not need: those of the others may be operators that are not known."""
    maker = {name: node for node in graph.node for name in node.output if name}
    needed, waiting = set(outputs), list(outputs)
    while waiting:
        node = maker.get(waiting.pop())
        new = set() if node is None else set(_read_by(node)) - needed
        needed |= new
        waiting += new
    kept = [node for node in graph.node if needed & set(node.output)]
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names of tensors that a node reads, by the graphs inside it too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (info.name for info in graph.output)
            for inner in graph.node:
                yield from _read_by(inner)


def _shape(info: onnx.ValueInfoProto, batch: int | None, sizes: Sizes) -> Shape:
    tensor = info.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(tensor.elem_type)
        raise GraphError(f"input {info.name} is of type {found}: expected FLOAT; export the model in float32")
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    if not dims:
        raise GraphError(f"input {info.name}: expected a tensor of static shape, found none")
    return sizes.fill(info.name, dims, batch)
