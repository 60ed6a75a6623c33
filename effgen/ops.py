"""One table: operator -> attributes, output shape, multiply-adds.

Operators carry ONNX's names and attribute names. Tensors are NCHW. `Swish` is ONNX's name (opset 24) for SiLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from effgen.errors import GraphError

Shape: TypeAlias = tuple[int, ...]
AttributeValue: TypeAlias = int | float | tuple[int, ...]
Attributes: TypeAlias = Mapping[str, AttributeValue]


@dataclass(frozen=True)
class OpInfo:
    """What the graph must know of an operator.

    `infer(shapes, attributes)` gives the output's shape or raises GraphError; `macs(shapes, output)` counts
    multiply-adds (only convolutions and linear layers have any: the paper's "FLOPS").
    """

    arity: tuple[int, int]
    attributes: frozenset[str]
    infer: Callable[[Sequence[Shape], Attributes], Shape]
    macs: Callable[[Sequence[Shape], Shape], int]


def ints(attributes: Attributes, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """A tuple attribute, or its default."""
    value = attributes.get(key, default)
    assert isinstance(value, tuple), f"{key} = {value}"
    return value


def integer(attributes: Attributes, key: str, default: int) -> int:
    """A whole-number attribute, or its default."""
    value = attributes.get(key, default)
    assert isinstance(value, int), f"{key} = {value}"
    return value


def number(attributes: Attributes, key: str) -> float:
    """An attribute that is one number."""
    value = attributes[key]
    assert not isinstance(value, tuple), f"{key} = {value}"
    return float(value)


def _no_macs(shapes: Sequence[Shape], output: Shape) -> int:
    return 0


def _same_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    return shapes[0]


def _infer_conv(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, weight = shapes[0], shapes[1]
    groups = integer(attributes, "group", 1)
    if len(data) != 4 or len(weight) != 4:
        raise GraphError(f"Conv: expected 4-D data and weight, found {data} and {weight}")
    if data[1] != weight[1] * groups or weight[0] % groups:
        raise GraphError(f"Conv: weight {weight} with group={groups} does not fit data {data}")
    if len(shapes) == 3 and shapes[2] != (weight[0],):
        raise GraphError(f"Conv: bias {shapes[2]}: expected ({weight[0]},)")
    top, left, bottom, right = ints(attributes, "pads", (0, 0, 0, 0))
    strides = ints(attributes, "strides", (1, 1))
    if min(strides) < 1:
        raise GraphError(f"Conv: strides {strides}: expected 1 or more")
    padded = (data[2] + top + bottom, data[3] + left + right)
    spatial = tuple((padded[i] - weight[2 + i]) // strides[i] + 1 for i in range(2))
    if min(spatial) < 1:
        raise GraphError(f"Conv: kernel {weight[2:]} is larger than the padded image {padded}")
    return (data[0], weight[0], *spatial)


def _conv_macs(shapes: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * math.prod(shapes[1][1:])


def _infer_batchnorm(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    if len(shapes[0]) < 2:
        raise GraphError(f"BatchNormalization: expected data with channels, found {shapes[0]}")
    channels = (shapes[0][1],)
    for shape in shapes[1:]:
        if shape != channels:
            raise GraphError(f"BatchNormalization: parameter {shape}: expected {channels}")
    return shapes[0]


def _infer_pool(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    if len(shapes[0]) != 4:
        raise GraphError(f"GlobalAveragePool: expected 4-D data, found {shapes[0]}")
    return (*shapes[0][:2], 1, 1)


def _infer_broadcast(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    left, right = shapes
    if len(left) != len(right):
        raise GraphError(f"expected two tensors of one rank, found {left} and {right}")
    for a, b in zip(left, right, strict=True):
        if a != b and 1 not in (a, b):
            raise GraphError(f"{left} and {right} do not broadcast")
    return tuple(max(a, b) for a, b in zip(left, right, strict=True))


def _infer_flatten(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    axis = integer(attributes, "axis", 1)
    return (math.prod(shapes[0][:axis]), math.prod(shapes[0][axis:]))


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


def _elementwise(*attributes: str) -> OpInfo:
    return OpInfo((1, 1), frozenset(attributes), _same_shape, _no_macs)


OPS: Mapping[str, OpInfo] = {
    "Conv": OpInfo((2, 3), frozenset({"group", "pads", "strides"}), _infer_conv, _conv_macs),
    "BatchNormalization": OpInfo((5, 5), frozenset({"epsilon"}), _infer_batchnorm, _no_macs),
    "Gemm": OpInfo((2, 3), frozenset({"transB"}), _infer_gemm, _gemm_macs),
    "GlobalAveragePool": OpInfo((1, 1), frozenset(), _infer_pool, _no_macs),
    "Flatten": OpInfo((1, 1), frozenset({"axis"}), _infer_flatten, _no_macs),
    "Add": OpInfo((2, 2), frozenset(), _infer_broadcast, _no_macs),
    "Mul": OpInfo((2, 2), frozenset(), _infer_broadcast, _no_macs),
    "Sigmoid": _elementwise(),
    "Swish": _elementwise(),
    "Relu": _elementwise(),
    "Clip": _elementwise("min", "max"),
    "HardSigmoid": _elementwise("alpha", "beta"),
    "HardSwish": _elementwise(),
}
