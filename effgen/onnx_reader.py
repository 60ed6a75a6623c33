"""ONNX -> Graph: reads back what `effgen.export` writes, so that a bundle can be judged from its own file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from effgen.errors import GraphError
from effgen.graph import Graph, Node, Parameter, Role, Value
from effgen.ops import OPS, AttributeValue

#: Attributes of an ONNX node, decoded.
_Attributes = Mapping[str, Any]

#: Operator -> the roles of its inputs after the first.
_ROLES: Mapping[str, tuple[Role, ...]] = {
    "Conv": ("kernel", "bias"),
    "Gemm": ("kernel", "bias"),
    "BatchNormalization": ("norm_scale", "norm_bias", "norm_mean", "norm_var"),
}

#: Attributes that say nothing at the one value that is understood, and are left out of the Graph.
_ONLY_VALUE: Mapping[str, Mapping[str, Any]] = {
    "Conv": {"auto_pad": b"NOTSET", "dilations": [1, 1]},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0},
    "BatchNormalization": {"momentum": None, "training_mode": 0},
}


def graph_from_onnx(path: Path) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph in `path` and the arrays of its parameters, external data included.

    `Sigmoid` + `Mul` of one tensor becomes `Swish` again, bounds of `Clip` become attributes. `scope` is empty: ONNX
    has no place for it. Raises GraphError (one line) for a file that cannot be read, an operator, attribute or type
    outside effgen's, and for shapes that are not static.
    """
    model = _load(path)
    try:
        return _Reader(model.graph).run()
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from None


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except OSError as error:
        raise GraphError(f"{path}: cannot read the model: {error.strerror or error}") from None
    except Exception as error:  # protobuf's DecodeError and onnx's ValidationError share no base of their own
        reason = " ".join(str(error).split())
        raise GraphError(f"{path}: not a readable ONNX model: {reason}") from None


class _Reader:
    """Walks the nodes once, after the diamonds of Swish are found."""

    def __init__(self, proto: onnx.GraphProto) -> None:
        self.proto = proto
        self.arrays = {tensor.name: _array(tensor) for tensor in proto.initializer}
        self.gates = _swish_gates(proto)

    def run(self) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
        self.refuse_unknown()
        image = self.only("input", [info for info in self.proto.input if info.name not in self.arrays])
        output = self.only("output", list(self.proto.output))
        nodes = tuple(self.node(proto) for proto in self.proto.node if proto.output[0] not in self.gates)
        roles = _roles(nodes)
        parameters = {
            name: Parameter(name, array.shape, roles[name]) for name, array in self.arrays.items() if name in roles
        }
        graph = Graph(self.proto.name, _value(image), output.name, nodes, parameters).verify()
        return graph, {name: self.arrays[name] for name in parameters}

    def refuse_unknown(self) -> None:
        unknown = sorted({node.op_type for node in self.proto.node if node.domain or node.op_type not in OPS})
        if unknown:
            raise GraphError(f"operators that are not supported: {', '.join(unknown)}; {_supported()}")

    def only(self, what: str, found: list[onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
        if len(found) != 1:
            names = ", ".join(info.name for info in found) or "none"
            raise GraphError(f"expected one {what}, found {names}")
        return found[0]

    def node(self, proto: onnx.NodeProto) -> Node:
        op_type, output = proto.op_type, proto.output[0]
        if op_type == "Mul" and (gate := self.gate_of(proto)) is not None:
            return Node("Swish", (self.gates[gate],), output)
        if op_type == "Clip":
            low, high = (self.bound(proto, index) for index in (1, 2))
            return Node("Clip", (proto.input[0],), output, {"min": low, "max": high})
        raw = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in proto.attribute}
        try:
            return Node(op_type, tuple(proto.input), output, _attributes(op_type, raw))
        except GraphError as error:
            raise GraphError(f"{output}: {error}") from None

    def gate_of(self, proto: onnx.NodeProto) -> str | None:
        return next((name for name in proto.input if name in self.gates), None)

    def bound(self, proto: onnx.NodeProto, index: int) -> float:
        name = proto.input[index] if index < len(proto.input) else ""
        if name not in self.arrays or self.arrays[name].size != 1:
            raise GraphError(f"{proto.output[0]}: Clip needs both bounds as constants")
        return _shortest(self.arrays[name].item())


def _swish_gates(proto: onnx.GraphProto) -> dict[str, str]:
    """Output of a Sigmoid -> its input, where all that reads it is one `Mul` with that same input."""
    uses = Counter(name for node in proto.node for name in node.input)
    sigmoids = {node.output[0]: node.input[0] for node in proto.node if node.op_type == "Sigmoid"}
    return {
        gate: sigmoids[gate]
        for node in proto.node
        if node.op_type == "Mul"
        for gate, data in (tuple(node.input), tuple(reversed(node.input)))
        if uses[gate] == 1 and sigmoids.get(gate) == data
    }


def _roles(nodes: tuple[Node, ...]) -> dict[str, Role]:
    return {
        name: role for node in nodes for name, role in zip(node.inputs[1:], _ROLES.get(node.op_type, ()), strict=False)
    }


def _attributes(op_type: str, raw: _Attributes) -> dict[str, AttributeValue]:
    """The operator's attributes as the Graph keeps them, defaults filled in."""
    for key, value in _ONLY_VALUE.get(op_type, {}).items():
        if value is not None and raw.get(key, value) != value:
            raise GraphError(f"{op_type}: {key} = {raw[key]}: expected {value}")
    known = set(_ONLY_VALUE.get(op_type, {})) | OPS[op_type].attributes | ({"kernel_shape"} & set(raw))
    surplus = set(raw) - known
    if surplus:
        raise GraphError(f"{op_type}: attribute {min(surplus)} is not supported")
    return _COMPLETE.get(op_type, _no_attributes)(raw)


def _no_attributes(raw: _Attributes) -> dict[str, AttributeValue]:
    return {}


def _conv(raw: _Attributes) -> dict[str, AttributeValue]:
    pads, strides = tuple(raw.get("pads", (0, 0, 0, 0))), tuple(raw.get("strides", (1, 1)))
    return {"group": raw.get("group", 1), "pads": pads, "strides": strides}


def _hard_sigmoid(raw: _Attributes) -> dict[str, AttributeValue]:
    return {"alpha": _shortest(raw.get("alpha", 0.2)), "beta": _shortest(raw.get("beta", 0.5))}


_COMPLETE: Mapping[str, Callable[[_Attributes], dict[str, AttributeValue]]] = {
    "Conv": _conv,
    "BatchNormalization": lambda raw: {"epsilon": _shortest(raw.get("epsilon", 1e-5))},
    "Gemm": lambda raw: {"transB": raw.get("transB", 0)},
    "Flatten": lambda raw: {"axis": raw.get("axis", 1)},
    "HardSigmoid": _hard_sigmoid,
}


def _shortest(value: float) -> float:
    """ONNX keeps float32; the writer meant the shortest decimal that rounds to it: 1e-5, not 9.99999975e-06."""
    return float(str(np.float32(value)))


def _array(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    if tensor.data_type != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(tensor.data_type)
        raise GraphError(f"{tensor.name}: weights of type {found}: expected FLOAT")
    array: NDArray[np.float32] = numpy_helper.to_array(tensor)
    return array


def _value(info: onnx.ValueInfoProto) -> Value:
    tensor = info.type.tensor_type
    shape = tuple(dim.dim_value for dim in tensor.shape.dim)
    if tensor.elem_type != TensorProto.FLOAT or not shape or min(shape) < 1:
        found = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        raise GraphError(f"{info.name}: found shape {found}: expected a float32 tensor of static shape")
    return Value(info.name, shape)


def _supported() -> str:
    return f"supported: {', '.join(sorted(OPS))}"
