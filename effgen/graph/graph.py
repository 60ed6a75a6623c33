"""The Graph: nodes in execution order over static shapes, with ONNX's operator names.

A graph holds no weight data: parameters are declared (name, shape, role) and their arrays travel beside it as
`Weights`, so that the 480 million parameters of the largest preset can be counted without being allocated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from effgen.errors import GraphError, candidates
from effgen.graph.codes import CARRIERS, Grid
from effgen.graph.ops import OPS, Attributes, AttributeValue, Shape, text

#: Parameter name -> float32 array of the declared shape.
Weights: TypeAlias = Mapping[str, NDArray[np.float32]]

#: What a parameter is for; batch-norm statistics and constants of arithmetic are not trained and not counted.
Role = Literal["kernel", "bias", "norm_scale", "norm_bias", "norm_mean", "norm_var", "constant"]
_NOT_TRAINED = ("norm_mean", "norm_var", "constant")

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Value:
    """A float32 tensor of static shape."""

    name: str
    shape: Shape

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor as float32."""
        return self.size * FLOAT32_BYTES


@dataclass(frozen=True)
class Parameter(Value):
    """A constant of the network; kernels are `[out, in / group, kh, kw]` or `[out, in]`. `grid`: how it is stored as
    codes; passes may have changed the numbers since (`Grid.codes_of`)."""

    role: Role
    grid: Grid | None = None

    @property
    def trainable(self) -> bool:
        """Whether it counts as a parameter in the paper's sense."""
        return self.role not in _NOT_TRAINED


@dataclass(frozen=True)
class Node:
    """One operator. `scope` says which part of the spec it came from ("stem", "stages.3", "head", ...)."""

    op_type: str
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes = field(default_factory=dict)
    scope: str = ""


@dataclass(frozen=True)
class Graph:
    """A network: one input, one output or several, all different, and nodes in an order in which they can run."""

    name: str
    input: Value
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    parameters: Mapping[str, Parameter]

    @cached_property
    def values(self) -> Mapping[str, Value]:
        """Every tensor by name: the input, the parameters, and each node's output with its inferred shape.

        Raises GraphError where a node uses an unknown name, operator or attribute, or its shapes do not fit.
        """
        known: dict[str, Value] = {self.input.name: self.input, **self.parameters}
        for node in self.nodes:
            known[node.output] = Value(node.output, _infer(node, known))
        return known

    @cached_property
    def codes(self) -> Mapping[str, str]:
        """The tensors that hold whole-number codes, with the type of these."""
        found: dict[str, str] = {}
        for node in self.nodes:
            kind = code_type(node, found)
            found |= {} if kind is None else {node.output: kind}
        return found

    def shapes_into(self, node: Node) -> list[Shape]:
        """Shapes of the node's inputs, in order."""
        return [self.values[name].shape for name in node.inputs]

    def macs_of(self, node: Node) -> int:
        """Multiply-adds of one node at the graph's batch size."""
        return OPS[node.op_type].macs(self.shapes_into(node), self.values[node.output].shape)

    @property
    def batch(self) -> int:
        """Images per call."""
        return self.input.shape[0]

    @property
    def output(self) -> str:
        """The output of a network that has one. Raises GraphError where it has several."""
        if len(self.outputs) != 1:
            raise GraphError(f"{self.name}: has {len(self.outputs)} outputs ({', '.join(self.outputs)}): expected one")
        return self.outputs[0]

    @property
    def classes(self) -> int | None:
        """Numbers in an image's output `(batch, classes)`; None where the network is no classifier: it has several
        outputs, or one of another shape."""
        shape = self.values[self.outputs[0]].shape
        return shape[1] if len(self.outputs) == 1 and len(shape) == 2 else None

    def uses(self) -> Counter[str]:
        """How often each tensor is needed: once for each time that a node reads it, and once as an output."""
        return Counter([*(name for node in self.nodes for name in node.inputs), *self.outputs])

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and classifier for ONE image (what the paper calls FLOPS)."""
        return sum(self.macs_of(node) for node in self.nodes) // self.batch

    @property
    def parameter_count(self) -> int:
        """Trainable parameters: kernels, biases, batch-norm scale and bias (not its statistics)."""
        return sum(p.size for p in self.parameters.values() if p.trainable)

    def bytes_of(self, node: Node) -> int:
        """Bytes read and written by one node if nothing is fused: inputs, parameters and output."""
        names = (*node.inputs, node.output)
        return sum(self.values[name].nbytes for name in names)

    def verify(self) -> Graph:
        """Check the invariants that every stage relies on and return the graph; raise GraphError where one breaks."""
        made = self.values.keys() - {self.input.name, *self.parameters}
        seen = {self.input.name, *self.parameters}
        for node in self.nodes:
            if node.output in seen:
                raise GraphError(f"{self.name}: {node.output} is defined twice")
            seen.add(node.output)
        self._verify_outputs(made)
        used = self.uses()
        idle = [name for name in seen if name not in used]
        if idle:
            raise GraphError(f"{self.name}: never used: {', '.join(sorted(idle)[:5])}")
        return self

    def _verify_outputs(self, made: Set[str]) -> None:
        if not self.outputs:
            raise GraphError(f"{self.name}: has no output")
        for name, count in Counter(self.outputs).items():
            if name not in made:
                raise GraphError(f"{self.name}: output {name} is computed by no node")
            if count > 1:
                raise GraphError(f"{self.name}: output {name} is there twice")

    def dump(self) -> str:
        """The graph as text, one node a line: `output: shape = Op(inputs) {attributes}  # MACs`."""
        lines = [f"graph {self.name}({_signature(self.input)}) -> {', '.join(self.outputs)}"]
        for node in self.nodes:
            attributes = " ".join(f"{key}={_plain(value)}" for key, value in sorted(node.attributes.items()))
            operands = ", ".join(node.inputs)
            macs = f"{self.macs_of(node):,} MACs, " if self.macs_of(node) else ""
            left = _signature(self.values[node.output])
            lines.append(
                f"  {left} = {node.op_type}({operands}){' {' + attributes + '}' if attributes else ''}"
                f"  # {macs}{self.bytes_of(node):,} bytes"
            )
        return "\n".join(lines) + "\n"


def code_type(node: Node, codes: Mapping[str, str]) -> str | None:
    """The type of the codes that a node's output holds, where those of its inputs are known; None: it holds none.

    Raises GraphError where it computes with codes as if they were numbers.
    """
    kinds = {codes[name] for name in node.inputs if name in codes}
    if node.op_type == "QuantizeLinear":
        return text(node.attributes, "type")
    if not kinds or node.op_type == "DequantizeLinear":
        return None
    if node.op_type not in CARRIERS or len(kinds) > 1:
        found = ", ".join(sorted(kinds))
        raise GraphError(f"{node.op_type} of whole numbers ({found}): expected a DequantizeLinear before it")
    return kinds.pop()


def _infer(node: Node, known: Mapping[str, Value]) -> Shape:
    info = OPS.get(node.op_type)
    if info is None:
        raise GraphError(f"{node.output}: operator {node.op_type} is not supported; {candidates(node.op_type, OPS)}")
    missing = [name for name in node.inputs if name not in known]
    if missing:
        raise GraphError(f"{node.output}: {node.op_type} reads {missing[0]}, which nothing before it computes")
    low, high = info.arity
    if not low <= len(node.inputs) <= high:
        raise GraphError(f"{node.output}: {node.op_type} takes {low} to {high} inputs, found {len(node.inputs)}")
    surplus = set(node.attributes) - info.attributes - info.optional
    if surplus:
        raise GraphError(f"{node.output}: {node.op_type} has no attribute {min(surplus)}")
    lacking = info.attributes - set(node.attributes)
    if lacking:
        raise GraphError(f"{node.output}: {node.op_type} lacks its attribute {min(lacking)}")
    try:
        return info.infer([known[name].shape for name in node.inputs], node.attributes)
    except GraphError as error:
        raise GraphError(f"{node.output}: {error}") from None


def _signature(value: Value) -> str:
    return f"{value.name}: {'x'.join(map(str, value.shape))}"


def _plain(value: AttributeValue) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


class GraphBuilder:
    """Collects nodes and parameters; each method returns the name of the tensor it adds."""

    def __init__(self, name: str, input: Value) -> None:
        self._name = name
        self._input = input
        self._nodes: list[Node] = []
        self._shapes: dict[str, Value] = {input.name: input}
        self._parameters: dict[str, Parameter] = {}
        self.scope = ""

    def parameter(self, name: str, shape: Sequence[int], role: Role) -> str:
        """Declare a parameter."""
        assert name not in self._shapes, f"{name} is declared twice"
        self._parameters[name] = Parameter(name, tuple(shape), role)
        self._shapes[name] = self._parameters[name]
        return name

    def add(self, op_type: str, inputs: Iterable[str], output: str, **attributes: AttributeValue) -> str:
        """Append a node."""
        assert output not in self._shapes, f"{output} is defined twice"
        node = Node(op_type, tuple(inputs), output, attributes, self.scope)
        self._shapes[output] = Value(output, _infer(node, self._shapes))
        self._nodes.append(node)
        return output

    def shape(self, name: str) -> Shape:
        """The shape of a tensor added so far."""
        return self._shapes[name].shape

    def finish(self, *outputs: str) -> Graph:
        """The verified graph."""
        return Graph(self._name, self._input, outputs, tuple(self._nodes), self._parameters).verify()


def check_weights(graph: Graph, weights: Mapping[str, NDArray[Any]]) -> None:
    """Our own invariant: the arrays are exactly the declared parameters. A miss is a bug, not a user's error."""
    assert weights.keys() == graph.parameters.keys(), weights.keys() ^ graph.parameters.keys()
    for name, parameter in graph.parameters.items():
        array = weights[name]
        assert array.shape == parameter.shape and array.dtype == np.float32, (name, array.shape, array.dtype)
