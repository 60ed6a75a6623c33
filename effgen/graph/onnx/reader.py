"""The walk over an ONNX file's nodes: what is constant is computed, everything else is given to its converter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from effgen.errors import GraphError
from effgen.files.bounded import MOST_WEIGHTS_BYTES
from effgen.graph import Graph, Node, Parameter, Role, Value, code_type
from effgen.graph.codes import Grid
from effgen.graph.onnx.file import STANDARD_DOMAINS, OnnxFile
from effgen.graph.onnx.folding import MOST_TIMES, SPARE_BYTES, Folder, grid_of
from effgen.graph.onnx.functions import MOST_NODES
from effgen.graph.onnx.order import in_order, inlined
from effgen.graph.onnx.schema import check_node, shortened
from effgen.graph.ops import OPS, AttributeValue, Shape

AnyArray: TypeAlias = NDArray[Any]

#: What converters raise where a node lacks what ONNX demands of it.
_MALFORMED = (ArithmeticError, LookupError, TypeError, ValueError)

#: Numbers of a tensor, and operators that a file's nodes may become.
MOST_NUMBERS, _MOST_MADE = 2**29, MOST_NODES

#: Types of constants that are computed with as float32.
_AS_FLOAT32 = ("float16", "bfloat16", "float64")

#: What shows the way out of an operator that is not supported, beside leaving it out.
_HINTS: Mapping[str, str] = {
    "ArgMax": "leave it out: the numbers before it are the network's output",
    "GatherND": "torch writes interpolate(mode='nearest-exact') so: export with mode='nearest'",
    "Loop": "export without control flow",
    "NonMaxSuppression": "export without post-processing",
    "Scan": "export without control flow",
    "TopK": "leave it out: the numbers before it are the network's output",
}


@dataclass(frozen=True)
class OnnxNode:
    """One node of the file, attributes decoded; an input that is left out is an empty name."""

    proto: onnx.NodeProto
    attributes: Mapping[str, Any]

    @property
    def op_type(self) -> str:
        return str(self.proto.op_type)

    @property
    def inputs(self) -> list[str]:
        return list(self.proto.input)

    @property
    def outputs(self) -> list[str]:
        return list(self.proto.output)

    @property
    def output(self) -> str:
        """The first output, which all but Split have alone."""
        return str(self.proto.output[0])


Converter: TypeAlias = Callable[["Reader", OnnxNode], None]


class Reader:
    """What is known while the nodes are gone through in order.

    Every tensor of the file is one of: a constant, a tensor of the Graph (perhaps of another name), or unknown because
    an operator before it is not supported. `notes` says what was read otherwise than it stands.
    """

    def __init__(self, file: OnnxFile, converters: Mapping[str, Converter]) -> None:
        self.file = file
        self.converters = converters
        self.proto = file.model.graph
        self.opset = file.opset
        self.folder = Folder(file.opset, file.stored_bytes)
        self._weight_bytes = min(SPARE_BYTES + MOST_TIMES * file.stored_bytes, MOST_WEIGHTS_BYTES)
        self.constants: dict[str, AnyArray] = {"": np.zeros(0, np.float32)}
        self.names = {file.input.name: file.input.name}
        self.values: dict[str, Value] = {file.input.name: file.input}
        self.made: dict[str, Node] = {}
        self.parameters: dict[str, Parameter] = {}
        self.weights: dict[str, NDArray[np.float32]] = {}
        self.grids: dict[str, Grid] = {}
        self.codes: dict[str, str] = {}
        self.unknown: set[str] = set()
        self.unsupported: set[str] = set()
        self._read = {name for proto in self.proto.node for name in proto.input} | set(file.outputs)
        self.first_error: GraphError | None = None
        self.notes: list[str] = []
        self.reduced = False

    def run(self) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
        self.constants |= _arrays(self.proto.initializer)
        self.nodes(in_order(self.proto.node, [*self.constants, *self.names]))
        if self.unsupported:
            raise GraphError(self.lacking())
        if self.first_error is not None:
            raise self.first_error
        return self.graph({declared: self.output(declared) for declared in self.file.outputs}), self.weights

    def lacking(self) -> str:
        """Every operator that is not supported, and the way out where one is known."""
        found = [f"{name} ({hint})" if (hint := _HINTS.get(name)) else name for name in sorted(self.unsupported)]
        skipped = self.folder.skipped
        why = f"; constants too large or slow to compute: {', '.join(sorted(skipped))}" if skipped else ""
        return (
            f"operators that are not supported: {', '.join(found)}{why}; "
            f"supported: {', '.join(sorted(self.converters))}"
        )

    def output(self, declared: str) -> str:
        """The Graph's tensor that an output of the file is."""
        try:
            tensor = self.tensor(declared)
            if tensor == self.file.input.name:
                raise GraphError("is the input itself: expected a tensor that the network computes")
            if tensor in self.codes:
                raise GraphError(f"whole numbers of type {self.codes[tensor]}: expected those before or behind them")
            return tensor
        except GraphError as error:
            leave_out = "; --outputs can leave it out" if len(self.file.outputs) > 1 else ""
            raise GraphError(f"output {declared}: {error}{leave_out}") from None

    def graph(self, outputs: Mapping[str, str]) -> Graph:
        """The nodes as a graph whose outputs have the file's names for them. A tensor that is several outputs has the
        name of one; the others are the Identity of it."""
        names = {tensor: tensor for declared, tensor in outputs.items() if tensor == declared}
        for declared, tensor in outputs.items():
            names.setdefault(tensor, tensor if declared in self.values else declared)
        nodes = [_renamed(node, names) for node in self.made.values()]
        shared, found = Counter(outputs.values()), []
        for declared, tensor in outputs.items():
            name = names[tensor]
            if shared[tensor] > 1 and name != declared:
                nodes.append(Node("Identity", (name,), declared))
                name = declared
            found.append(name)
        return Graph(self.proto.name or "graph", self.file.input, tuple(found), tuple(nodes), self.parameters)

    def nodes(self, protos: Iterable[onnx.NodeProto]) -> None:
        for proto in protos:
            try:
                check_node(proto, self.opset)
                self.node(OnnxNode(proto, _attributes(proto)))
            except GraphError as error:
                # Operators that are not supported are to be named all at once: what else is wrong has to wait.
                self.failed(error, proto)
            except _MALFORMED as error:
                # What no valid file holds is looked for nowhere else: an attribute or number missing, or one too many.
                reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
                self.failed(GraphError(f"malformed: {reason}; expected what ONNX says of {proto.op_type}"), proto)

    def failed(self, error: GraphError, proto: onnx.NodeProto) -> None:
        """Keep in mind what is wrong with a node: of several the first is told."""
        self.first_error = self.first_error or _located(error, proto)
        self.unknown.update(name for name in proto.output if name)

    def node(self, node: OnnxNode) -> None:
        converter = self.converters.get(node.op_type) if node.proto.domain in STANDARD_DOMAINS else None
        known = [name for name in node.inputs if name not in self.unknown]
        if node.op_type == "Shape" and node.inputs and not self.is_constant(node.inputs[0]):
            if known:
                self.constants[node.output] = _shape_of(self.shape(known[0]), node)
            self.unknown.update(node.outputs if not known else ())
        elif node.op_type == "Size" and known and known[0] in self.names:
            self.constants[node.output] = np.array(np.prod(self.shape(known[0])), np.int64)
        elif node.op_type == "If" and node.inputs[0] in self.constants:
            self.branch(node)
        elif self.is_of_constants(node) and self.folded(node):
            pass
        elif converter is not None and node.proto.op_type in self.folder.skipped and self.is_of_constants(node):
            raise GraphError("constants too large or slow to compute: expected weights as they are; fold them before")
        elif converter is None:
            self.unsupported.add(f"{node.proto.domain}.{node.op_type}".removeprefix("ai.onnx.").lstrip("."))
            self.unknown.update(node.outputs)
        elif len(known) < len(node.inputs):
            self.unknown.update(node.outputs)
        else:
            self.convert(converter, node)

    def branch(self, node: OnnxNode) -> None:
        """The nodes of the branch that a constant condition takes, in the place of the If."""
        taken = node.attributes["then_branch" if bool(self.constants[node.inputs[0]].all()) else "else_branch"]
        body = inlined(taken, node.output)
        self.constants |= _arrays(body.initializer)
        self.nodes(body.node)
        for output, found in zip(node.outputs, body.output, strict=True):
            if found.name in self.constants:
                self.constants[output] = self.constants[found.name]
            elif found.name in self.names:
                self.alias(output, self.names[found.name])
            else:
                self.unknown.add(output)

    def convert(self, converter: Converter, node: OnnxNode) -> None:
        converter(self, node)
        self.unknown.update(name for name in node.outputs if name not in self.names and name not in self.constants)

    def is_of_constants(self, node: OnnxNode) -> bool:
        """Whether all that it reads is constant."""
        return all(self.is_constant(name) for name in node.inputs)

    def folded(self, node: OnnxNode) -> bool:
        """Compute a node whose inputs are all constants; False where that cannot be done."""
        if node.proto.domain not in STANDARD_DOMAINS:
            return False
        feeds = {name: self.constants[name] for name in node.inputs if name}
        results = self.folder.results(node.proto, feeds)
        if results is None:
            return False
        grid = grid_of(node.proto, feeds) if node.op_type == "DequantizeLinear" else None
        self.grids |= {} if grid is None else {node.output: grid}
        self.constants |= dict(zip(node.outputs, results, strict=True))
        return True

    def note(self, text: str) -> None:
        """Something that is read otherwise than it stands, said once."""
        if text not in self.notes:
            self.notes.append(text)

    # What converters ask.

    def is_constant(self, name: str) -> bool:
        return name in self.constants

    def constant(self, node: OnnxNode, index: int, what: str) -> AnyArray:
        """An input that must be constant. Raises GraphError where it is computed."""
        name = node.inputs[index]
        if name not in self.constants:
            raise GraphError(f"{what} is computed by the network: expected a constant")
        return self.constants[name]

    def number(self, node: OnnxNode, index: int, what: str) -> float:
        """An input that must be one constant number, of any shape. Raises GraphError for another."""
        array = self.constant(node, index, what)
        if array.size != 1:
            raise GraphError(f"{what} of shape {array.shape}: expected one number")
        return float(array.item())

    def is_read(self, name: str) -> bool:
        """Whether a node or the network's user reads a tensor of the file."""
        return name in self._read

    def has_input(self, node: OnnxNode, index: int) -> bool:
        return index < len(node.inputs) and node.inputs[index] != ""

    def integers(self, node: OnnxNode, key: str, index: int) -> tuple[int, ...] | None:
        """What old opsets have as attribute `key` and new ones as input `index`; None where it is left out."""
        if key in node.attributes:
            value = node.attributes[key]
            return tuple(value) if isinstance(value, tuple | list) else (value,)
        if not self.has_input(node, index):
            return None
        return tuple(int(number) for number in np.atleast_1d(self.constant(node, index, key)))

    def tensor(self, name: str) -> str:
        """The Graph's name of a tensor that is an operand. Raises GraphError for what is none."""
        if name not in self.names:
            raise GraphError(f"{name} is not computed from the image: expected a tensor of the network")
        return self.names[name]

    def shape(self, name: str) -> Shape:
        """Shape of a tensor of the file."""
        if name in self.constants:
            return self.constants[name].shape
        return self.values[self.tensor(name)].shape

    def rank(self, tensor: str) -> int:
        """Axes of a tensor of the Graph."""
        return len(self.values[tensor].shape)

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front. Raises GraphError where there is none."""
        if not -rank <= axis < rank:
            raise GraphError(f"axis {axis} of {rank}: expected one of its axes")
        return axis % rank

    # What converters do.

    def emit(self, op_type: str, inputs: Sequence[str], output: str, **attributes: AttributeValue) -> str:
        """Append a node to the Graph; `inputs` are the Graph's names, `output` a name of the file or a fresh one."""
        shapes = [self.values[name].shape for name in inputs]
        found = Value(output, OPS[op_type].infer(shapes, attributes))
        if found.size > MOST_NUMBERS:
            raise GraphError(f"has {found.size:,} numbers: expected at most {MOST_NUMBERS:,} (2 GiB)")
        if len(self.made) >= _MOST_MADE:
            raise GraphError(f"is more than {_MOST_MADE:,} operators")
        node = Node(op_type, tuple(inputs), output, attributes)
        kind = code_type(node, self.codes)
        self.codes |= {} if kind is None else {output: kind}
        self.values[output] = found
        self.made[output] = node
        self.names[output] = output
        return output

    def reshaped(self, tensor: str, shape: Shape, output: str) -> str:
        """A tensor of the Graph in another shape: as it is, or by a Reshape."""
        if self.values[tensor].shape == shape:
            return tensor
        return self.emit("Reshape", [tensor], self.fresh(output), shape=shape)

    def fresh(self, output: str) -> str:
        """A name like this one that stands for nothing yet."""
        while output in self.values:
            output += "_"
        return output

    def alias(self, output: str, tensor: str) -> None:
        """`output` of the file is the Graph's `tensor`."""
        self.names[output] = tensor

    def parameter(self, name: str, array: AnyArray, role: Role) -> str:
        """Declare a constant of the network; a name that stands for other values already gets a suffix."""
        array = self.float32(name, array)
        wanted = name
        while wanted in self.values and not self.same(wanted, array):
            wanted += "_"
        if wanted not in self.parameters:
            self._weight_bytes -= array.nbytes
            if self._weight_bytes < 0:
                raise GraphError("its weights are many times what the file holds: expected each of them a few times")
            grid = self.grids.get(name)
            stored = grid is not None and array.shape == self.constants[name].shape
            self.parameters[wanted] = Parameter(wanted, array.shape, role, grid if stored else None)
            self.values[wanted] = self.parameters[wanted]
            self.weights[wanted] = array
        return wanted

    def operand(self, name: str) -> str:
        """The Graph's name of a tensor, or of a constant of the file, which becomes a parameter."""
        return self.parameter(name, self.constants[name], "constant") if name in self.constants else self.tensor(name)

    def float32(self, name: str, array: AnyArray) -> NDArray[np.float32]:
        """A constant to compute with. Raises GraphError for one of whole numbers."""
        if array.dtype.name in _AS_FLOAT32:
            self.note(f"weights of type {array.dtype.name} are computed with as float32")
            self.reduced |= array.dtype.itemsize < 4
            # The file's own rounding stays; beyond float32 there is nothing that other runtimes keep.
            return array.astype(np.float32)
        if array.dtype != np.float32:
            found = helper.np_dtype_to_tensor_dtype(array.dtype)
            raise GraphError(f"{name}: weights of type {onnx.TensorProto.DataType.Name(found)}: expected FLOAT")
        return array

    def same(self, name: str, array: AnyArray) -> bool:
        known = self.weights.get(name)
        return known is array or (known is not None and np.array_equal(known, array))


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    inputs = tuple(names.get(name, name) for name in node.inputs)
    return replace(node, inputs=inputs, output=names.get(node.output, node.output))


def _located(error: GraphError, proto: onnx.NodeProto) -> GraphError:
    name = proto.name or " ".join(proto.output[:1]) or "without an output"
    return GraphError(f"{proto.op_type} {shortened(name, 200)}: {shortened(str(error), 600)}")


def _arrays(tensors: Iterable[onnx.TensorProto]) -> dict[str, AnyArray]:
    """By name, but those of text: nothing is computed of them, and an array has room for the longest in each place."""
    return {tensor.name: _array(tensor) for tensor in tensors if tensor.data_type != onnx.TensorProto.STRING}


def _array(tensor: onnx.TensorProto) -> AnyArray:
    try:
        if min(tensor.dims, default=0) < 0:
            raise ValueError(f"shape {list(tensor.dims)}")
        array: AnyArray = numpy_helper.to_array(tensor)
    except _MALFORMED as error:
        raise GraphError(f"constant {tensor.name}: malformed: {' '.join(str(error).split())}") from None
    return array


def _attributes(proto: onnx.NodeProto) -> dict[str, Any]:
    """By name; one of a type that this onnx does not know is left out, and what a function's call would have set."""
    return {a.name: _plain(helper.get_attribute_value(a)) for a in proto.attribute if not a.ref_attr_name}


def _plain(value: Any) -> Any:
    """bytes as text, lists as tuples."""
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if isinstance(value, list) else value


def _shape_of(shape: Shape, node: OnnxNode) -> AnyArray:
    return np.array(shape, np.int64)[slice(node.attributes.get("start", 0), node.attributes.get("end"))]
