"""Linear layers, normalisations, and what is computed along axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from effgen.errors import GraphError
from effgen.graph.ops.info import Attributes, OpInfo, Shape, check_axes, integer, ints, no_macs


def _infer_gemm(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, weight = shapes[0], shapes[1]
    if integer(attributes, "transB", 0) != 1:
        raise GraphError("Gemm: only transB=1 (weight [out, in], as PyTorch's Linear) is supported")
    if len(data) != 2 or len(weight) != 2 or data[1] != weight[1]:
        raise GraphError(f"Gemm: weight {weight} does not fit data {data}")
    if len(shapes) == 3 and shapes[2] != (weight[0],):
        raise GraphError(f"Gemm: bias {shapes[2]}: expected ({weight[0]},)")
    return (data[0], weight[0])


def _gemm_macs(shapes: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * shapes[1][1]


def _infer_matmul(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Of stacks of matrices; the axes before the last two broadcast."""
    left, right = shapes
    if len(left) < 2 or len(left) != len(right) or left[-1] != right[-2]:
        raise GraphError(f"MatMul: {left} and {right}: expected matrices that fit, as many axes before them")
    if any(a != b and 1 not in (a, b) for a, b in zip(left[:-2], right[:-2], strict=True)):
        raise GraphError(f"MatMul: {left} and {right} do not broadcast")
    return (*map(max, left[:-2], right[:-2]), left[-2], right[-1])


def _matmul_macs(shapes: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * shapes[0][-1]


def _infer_batchnorm(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    if len(shapes[0]) < 2:
        raise GraphError(f"BatchNormalization: expected data with channels, found {shapes[0]}")
    return _per_channel("BatchNormalization", shapes)


def _infer_instance_norm(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    if len(shapes[0]) < 3:
        raise GraphError(f"InstanceNormalization: expected data with axes behind its channels, found {shapes[0]}")
    return _per_channel("InstanceNormalization", shapes)


def _per_channel(op_type: str, shapes: Sequence[Shape]) -> Shape:
    channels = (shapes[0][1],)
    for shape in shapes[1:]:
        if shape != channels:
            raise GraphError(f"{op_type}: parameter {shape}: expected {channels}")
    return shapes[0]


def _infer_layer_norm(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Over all axes from `axis` on, with a scale (and a bias) for each element of them."""
    data, axis = shapes[0], integer(attributes, "axis", -1)
    check_axes("LayerNormalization", data, (axis,))
    for shape in shapes[1:]:
        if shape != data[axis:]:
            raise GraphError(f"LayerNormalization: parameter {shape}: expected {data[axis:]}")
    return data


def _infer_softmax(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    check_axes("Softmax", shapes[0], (integer(attributes, "axis", -1),))
    return shapes[0]


def _infer_reduce(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, axes = shapes[0], ints(attributes, "axes")
    check_axes("reduction", data, axes)
    if integer(attributes, "keepdims", 1):
        return tuple(1 if axis in axes else n for axis, n in enumerate(data))
    return tuple(n for axis, n in enumerate(data) if axis not in axes)


#: What reduces axes to one number.
REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")

LAYERS: Mapping[str, OpInfo] = {
    "BatchNormalization": OpInfo((5, 5), frozenset({"epsilon"}), _infer_batchnorm, no_macs),
    "Gemm": OpInfo((2, 3), frozenset({"transB"}), _infer_gemm, _gemm_macs),
    "InstanceNormalization": OpInfo((3, 3), frozenset({"epsilon"}), _infer_instance_norm, no_macs),
    "LayerNormalization": OpInfo((2, 3), frozenset({"axis", "epsilon"}), _infer_layer_norm, no_macs),
    "LogSoftmax": OpInfo((1, 1), frozenset({"axis"}), _infer_softmax, no_macs),
    "MatMul": OpInfo((2, 2), frozenset(), _infer_matmul, _matmul_macs),
    "Softmax": OpInfo((1, 1), frozenset({"axis"}), _infer_softmax, no_macs),
    **{op_type: OpInfo((1, 1), frozenset({"axes", "keepdims"}), _infer_reduce, no_macs) for op_type in REDUCTIONS},
}
