"""One table: operator -> attributes, output shape, multiply-adds.

Operators carry ONNX's names and attribute names. Tensors are NCHW. `Swish` is ONNX's name (opset 24) for SiLU.
`ChannelShuffle` alone is no operator of ONNX's but three of them: Reshape, Transpose, Reshape.
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
    multiply-adds (only convolutions and linear layers have any: the paper's "FLOPS"). `optional` attributes are there
    where they say something: a dilation other than 1.
    """

    arity: tuple[int, int]
    attributes: frozenset[str]
    infer: Callable[[Sequence[Shape], Attributes], Shape]
    macs: Callable[[Sequence[Shape], Shape], int]
    optional: frozenset[str] = frozenset()


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


def is_sixth(factor: float) -> bool:
    """Files hold 1/6 as float32, or a division's result."""
    return abs(factor * 6 - 1) < 1e-6


def is_usual_hard_sigmoid(attributes: Attributes) -> bool:
    """Whether a HardSigmoid is the one inside HardSwish: clip(x / 6 + 1/2, 0, 1)."""
    return is_sixth(number(attributes, "alpha")) and number(attributes, "beta") == 0.5


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
    return (data[0], weight[0], *_windows("Conv", data, weight[2:], attributes))


def _windows(op_type: str, data: Shape, kernel: Shape, attributes: Attributes) -> tuple[int, int]:
    """How many windows fit into the padded image, downwards and across."""
    pads, strides = ints(attributes, "pads", (0, 0, 0, 0)), ints(attributes, "strides", (1, 1))
    dilations = ints(attributes, "dilations", (1, 1))
    for name, values, count, least in (
        ("pads", pads, 4, 0), ("strides", strides, 2, 1), ("dilations", dilations, 2, 1), ("kernel", kernel, 2, 1),
    ):  # fmt: skip
        if len(values) != count or min(values) < least:
            raise GraphError(f"{op_type}: {name} {values}: expected {count} numbers, {least} or more")
    top, left, bottom, right = pads
    padded = (data[2] + top + bottom, data[3] + left + right)
    window = tuple((kernel[i] - 1) * dilations[i] + 1 for i in range(2))
    if window[0] > padded[0] or window[1] > padded[1]:
        raise GraphError(f"{op_type}: kernel {window} is larger than the padded image {padded}")
    down, across = ((padded[i] - window[i]) // strides[i] + 1 for i in range(2))
    return down, across


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


def _infer_window_pool(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, kernel = shapes[0], ints(attributes, "kernel_shape", (1, 1))
    if len(data) != 4:
        raise GraphError(f"pooling: expected 4-D data, found {data}")
    spatial = _windows("pooling", data, kernel, attributes)
    pads, dilations = ints(attributes, "pads", (0, 0, 0, 0)), ints(attributes, "dilations", (1, 1))
    window = tuple((kernel[i] - 1) * dilations[i] + 1 for i in range(2))
    if any(pad >= window[i % 2] for i, pad in enumerate(pads)):
        raise GraphError(f"pooling: pads {pads}: a window {window} may lie beyond the image; expected less than it")
    return (*data[:2], *spatial)


def _infer_concat(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    if attributes["axis"] != 1:
        raise GraphError(f"Concat: axis = {attributes['axis']}: expected 1, channels")
    first = shapes[0]
    if any(len(shape) < 2 or (shape[0], *shape[2:]) != (first[0], *first[2:]) for shape in shapes):
        raise GraphError(f"Concat: {', '.join(map(str, shapes))} differ in more than their channels")
    return (first[0], sum(shape[1] for shape in shapes), *first[2:])


def _infer_slice(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, start, end = shapes[0], integer(attributes, "start", 0), integer(attributes, "end", 0)
    if len(data) != 4 or not 0 <= start < end <= data[1]:
        raise GraphError(f"Slice: channels {start} to {end} of {data}: expected some of an image's")
    return (data[0], end - start, *data[2:])


def _infer_shuffle(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, group = shapes[0], integer(attributes, "group", 1)
    if len(data) != 4 or group < 1 or data[1] % group:
        raise GraphError(f"ChannelShuffle: {data} in {group} groups: expected an image whose channels they divide")
    return data


def _infer_softmax(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    if len(shapes[0]) != 2 or attributes["axis"] != 1:
        raise GraphError(f"Softmax: {shapes[0]} along axis {attributes['axis']}: expected (batch, classes) along 1")
    return shapes[0]


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


_WINDOW = frozenset({"kernel_shape", "pads", "strides"})
#: The most tensors that one Concat joins.
_MANY = 4096

OPS: Mapping[str, OpInfo] = {
    "Conv": OpInfo(
        (2, 3), frozenset({"group", "pads", "strides"}), _infer_conv, _conv_macs, optional=frozenset({"dilations"})
    ),
    "BatchNormalization": OpInfo((5, 5), frozenset({"epsilon"}), _infer_batchnorm, _no_macs),
    "Gemm": OpInfo((2, 3), frozenset({"transB"}), _infer_gemm, _gemm_macs),
    "GlobalAveragePool": OpInfo((1, 1), frozenset(), _infer_pool, _no_macs),
    # "beyond": rows and columns at the end of the pads to which only `ceil_mode` leads; a mean never counts them.
    "MaxPool": OpInfo((1, 1), _WINDOW, _infer_window_pool, _no_macs, optional=frozenset({"dilations", "beyond"})),
    "AveragePool": OpInfo(
        (1, 1), _WINDOW | {"count_include_pad"}, _infer_window_pool, _no_macs, optional=frozenset({"beyond"})
    ),
    "Concat": OpInfo((1, _MANY), frozenset({"axis"}), _infer_concat, _no_macs),
    "Slice": OpInfo((1, 1), frozenset({"start", "end"}), _infer_slice, _no_macs),
    "ChannelShuffle": OpInfo((1, 1), frozenset({"group"}), _infer_shuffle, _no_macs),
    "Flatten": OpInfo((1, 1), frozenset({"axis"}), _infer_flatten, _no_macs),
    "Add": OpInfo((2, 2), frozenset(), _infer_broadcast, _no_macs),
    "Mul": OpInfo((2, 2), frozenset(), _infer_broadcast, _no_macs),
    # A second name of a tensor, for an output that another is as well.
    "Identity": _elementwise(),
    "Sigmoid": _elementwise(),
    "Swish": _elementwise(),
    "Relu": _elementwise(),
    "Clip": _elementwise("min", "max"),
    "HardSigmoid": _elementwise("alpha", "beta"),
    "HardSwish": _elementwise(),
    "LeakyRelu": _elementwise("alpha"),
    "Softmax": OpInfo((1, 1), frozenset({"axis"}), _infer_softmax, _no_macs),
}
