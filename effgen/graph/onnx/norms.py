"""Normalisation by the data's own mean and variance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from effgen.errors import GraphError
from effgen.graph.onnx.arithmetic import shortest
from effgen.graph.onnx.reader import Converter, OnnxNode, Reader


def layer_norm(reader: Reader, node: OnnxNode) -> None:
    """Over the axes from `axis` on; its mean and deviation are no outputs here."""
    if any(reader.is_read(name) for name in node.outputs[1:]):
        raise GraphError("mean or deviation is read: expected the normalised data alone")
    data = reader.tensor(node.inputs[0])
    shape = reader.values[data].shape
    axis = reader.axis(node.attributes.get("axis", -1), len(shape))
    inputs = [data]
    for index in (1, 2):
        if reader.has_input(node, index):
            array = np.broadcast_to(reader.constant(node, index, "its scale or bias"), shape[axis:])
            inputs.append(reader.parameter(node.inputs[index], np.ascontiguousarray(array), "constant"))
    epsilon = shortest(node.attributes.get("epsilon", 1e-5))
    reader.emit("LayerNormalization", inputs, node.output, axis=axis, epsilon=epsilon)


def instance_norm(reader: Reader, node: OnnxNode) -> None:
    inputs = [reader.tensor(node.inputs[0])]
    for index in (1, 2):
        inputs.append(
            reader.parameter(node.inputs[index], reader.constant(node, index, "its scale or bias"), "constant")
        )
    epsilon = shortest(node.attributes.get("epsilon", 1e-5))
    reader.emit("InstanceNormalization", inputs, node.output, epsilon=epsilon)


def group_norm(reader: Reader, node: OnnxNode) -> None:
    """Groups of channels normalised as if each were a channel. Scale and bias: a number a channel, before opset 21 a
    number a group."""
    data = reader.tensor(node.inputs[0])
    shape, groups = reader.values[data].shape, int(node.attributes["num_groups"])
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        raise GraphError(f"{groups} groups of {shape}: expected a number that divides the channels")
    rows = reader.reshaped(data, (shape[0], groups, int(np.prod(shape[1:])) // groups), f"{node.output}.groups")
    ones, zeros = (np.full(groups, value, np.float32) for value in (1, 0))
    inputs = [
        rows,
        reader.parameter(f"{node.output}.ones", ones, "constant"),
        reader.parameter(f"{node.output}.zeros", zeros, "constant"),
    ]
    epsilon = shortest(node.attributes.get("epsilon", 1e-5))
    normal = reader.emit("InstanceNormalization", inputs, reader.fresh(f"{node.output}.normal"), epsilon=epsilon)
    image = reader.reshaped(normal, shape, f"{node.output}.image")
    for index, op_type in ((1, "Mul"), (2, "Add")):
        array = reader.constant(node, index, "its scale or bias")
        if array.size == groups != shape[1]:
            array = np.repeat(array, shape[1] // groups)
        constant = reader.parameter(node.inputs[index], array.reshape(1, -1, *[1] * (len(shape) - 2)), "constant")
        image = reader.emit(op_type, [image, constant], node.output if index == 2 else f"{node.output}.scaled")


def lrn(reader: Reader, node: OnnxNode) -> None:
    attributes = node.attributes
    reader.emit(
        "LRN",
        [reader.tensor(node.inputs[0])],
        node.output,
        size=int(attributes["size"]),
        alpha=shortest(attributes.get("alpha", 1e-4)),
        beta=shortest(attributes.get("beta", 0.75)),
        bias=shortest(attributes.get("bias", 1.0)),
    )


def mean_variance(reader: Reader, node: OnnxNode) -> None:
    """MeanVarianceNormalization over any axes: (x - mean) / (deviation + 1e-9), as ONNX writes it out."""
    data = reader.tensor(node.inputs[0])
    rank = reader.rank(data)
    axes = tuple(sorted(reader.axis(axis, rank) for axis in node.attributes.get("axes", (0, 2, 3))))
    mean = reader.emit("ReduceMean", [data], reader.fresh(f"{node.output}.mean"), axes=axes, keepdims=1)
    centred = reader.emit("Sub", [data, mean], reader.fresh(f"{node.output}.centred"))
    squares = reader.emit("Mul", [centred, centred], reader.fresh(f"{node.output}.squares"))
    variance = reader.emit("ReduceMean", [squares], reader.fresh(f"{node.output}.variance"), axes=axes, keepdims=1)
    deviation = reader.emit("Sqrt", [variance], reader.fresh(f"{node.output}.deviation"))
    small = reader.parameter(f"{node.output}.small", np.full((1,) * rank, 1e-9, np.float32), "constant")
    raised = reader.emit("Add", [deviation, small], reader.fresh(f"{node.output}.raised"))
    reader.emit("Div", [centred, raised], node.output)


CONVERTERS: Mapping[str, Converter] = {
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LRN": lrn,
    "LayerNormalization": layer_norm,
    "MeanVarianceNormalization": mean_variance,
}
