"""An ONNX file, opened: what it is, and whether it is of a kind that can be read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper

from effgen.errors import GraphError, candidates
from effgen.files.bounded import MOST_WEIGHTS_BYTES, UnreadableError, bytes_text, read_bytes
from effgen.files.contents import ONNX, kind_of_bytes
from effgen.graph import Value
from effgen.graph.onnx.functions import without_functions
from effgen.graph.onnx.schema import shortened
from effgen.graph.onnx.wire import check_wire
from effgen.graph.ops import Shape
from effgen.graph.sizes import AS_IT_IS, Sizes
from effgen.runtime.manifest import sha256_of

#: The oldest opset whose operators are understood.
OLDEST_OPSET = 7

#: Bits of a number, by ONNX's type; of two numbers of four bits one byte is made.
_BITS: Mapping[int, int] = {
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64), 64),
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32), 32),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16), 16),
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL), 8),
    **dict.fromkeys((TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2), 8),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4), 4),
}

#: What the domain of ONNX's own operators is called.
STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxFile:
    """A model as loaded, external data included; `input` has the batch that was asked for. `outputs`: those asked for,
    in that order, and then the model has no node that they do not need. `stored_bytes`: of the file and its external
    data."""

    path: Path
    model: onnx.ModelProto
    opset: int
    input: Value
    outputs: tuple[str, ...]
    stored_bytes: int

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
    model, stored = _load(path)
    try:
        opset = _opset(model)
        initialised = {tensor.name for tensor in model.graph.initializer}
        image = _only("input", [info for info in model.graph.input if info.name not in initialised])
        chosen = _outputs(model.graph, outputs)
        if outputs:
            _keep_needed(model.graph, chosen)
        return OnnxFile(path, model, opset, Value(image.name, _shape(image, batch, sizes)), chosen, stored)
    except GraphError as error:
        raise GraphError(f"{path}: {shortened(str(error))}") from None


def _load(path: Path) -> tuple[onnx.ModelProto, int]:
    """The model with its external data, functions unfolded, and the bytes that it takes on the disk."""
    try:
        data = read_bytes(path, MOST_WEIGHTS_BYTES)
    except UnreadableError as error:
        raise GraphError(f"{path}: cannot read the model: {error}") from None
    try:
        model = _parsed(data)
        stored = len(data) + _load_external(model, path.parent)
        return without_functions(model), stored
    except GraphError as error:
        raise GraphError(f"{path}: {_another_kind(data) or shortened(str(error))}") from None


def _parsed(data: bytes) -> onnx.ModelProto:
    check_wire(data)
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's DecodeError, and whatever another version of it raises
        raise GraphError(f"not a readable ONNX model: {' '.join(str(error).split())}") from None
    if not model.graph.node:
        raise GraphError("not a readable ONNX model: it has no operators")
    return model


def _load_external(model: onnx.ModelProto, folder: Path) -> int:
    """Read what lies in files beside the model into it: at most MOST_WEIGHTS_BYTES; returns how many bytes that is."""
    total = 0
    for tensor in _external_tensors(model):
        total += _external_bytes(tensor)
        if total > MOST_WEIGHTS_BYTES:
            raise GraphError(f"its external data is larger than {bytes_text(MOST_WEIGHTS_BYTES)}")
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:  # OSError, ValueError, onnx's ValidationError ...
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise GraphError(f"external data of {tensor.name}: {' '.join(reason.split())}") from None
    return total


def _external_tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes += graph.node
            yield from (tensor for tensor in graph.initializer if _is_external(tensor))
        else:
            for attribute in nodes.pop().attribute:
                graphs += [attribute.g, *attribute.graphs]
                yield from (tensor for tensor in (attribute.t, *attribute.tensors) if _is_external(tensor))


def _is_external(tensor: TensorProto) -> bool:
    return bool(external_data_helper.uses_external_data(tensor))


def _external_bytes(tensor: TensorProto) -> int:
    """The bytes that its shape and type ask for, which is what is read: files may hold more behind it."""
    if tensor.data_type not in _BITS or min(tensor.dims, default=0) < 0:
        raise GraphError(f"external data of {tensor.name}: of an unknown type or shape")
    size: int = (math.prod(tensor.dims) * _BITS[tensor.data_type] + 7) // 8
    stated = {entry.key: entry.value for entry in tensor.external_data}
    if stated.get("length", str(size)) != str(size):
        raise GraphError(f"external data of {tensor.name}: length {stated['length']}: expected {size}")
    kept = {key: stated[key] for key in ("location", "offset") if key in stated} | {"length": str(size)}
    del tensor.external_data[:]
    for key, value in kept.items():
        tensor.external_data.add(key=key, value=value)
    return size


def _another_kind(data: bytes) -> str:
    """What the file is instead of a model, empty where it looks like one or like nothing known."""
    kind = kind_of_bytes(data)
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
        known = tensor.elem_type in TensorProto.DataType.values()
        found = TensorProto.DataType.Name(tensor.elem_type) if known else str(tensor.elem_type)
        raise GraphError(f"input {info.name} is of type {found}: expected FLOAT; export the model in float32")
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    if not dims:
        raise GraphError(f"input {info.name}: expected a tensor of static shape, found none")
    return sizes.fill(info.name, dims, batch)
