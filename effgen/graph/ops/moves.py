"""Operators that move values and compute none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from effgen.errors import GraphError
from effgen.graph.ops.info import Attributes, OpInfo, Shape, check_axes, integer, ints, no_macs

#: The most tensors that one Concat joins.
_MANY = 4096


def _infer_concat(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    first, axis = shapes[0], integer(attributes, "axis", 1)
    check_axes("Concat", first, (axis,))
    others = [(*shape[:axis], *shape[axis + 1 :]) for shape in shapes]
    if len({len(shape) for shape in shapes}) > 1 or len(set(others)) > 1:
        along = "their channels" if axis == 1 else f"axis {axis}"
        raise GraphError(f"Concat: {', '.join(map(str, shapes))} differ in more than {along}")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _infer_slice(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, axes = shapes[0], ints(attributes, "axes")
    starts, ends, steps = (ints(attributes, key) for key in ("starts", "ends", "steps"))
    check_axes("Slice", data, axes)
    if not len(axes) == len(starts) == len(ends) == len(steps):
        raise GraphError(f"Slice: axes {axes}, starts {starts}, ends {ends}, steps {steps}: expected as many of each")
    found = list(data)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        count = len(range(start, end, step)) if step else 0
        # Backwards to the first element the end is -1.
        if not (0 <= start < data[axis] and -1 <= end <= data[axis] and count):
            raise GraphError(
                f"Slice: {start} to {end} in steps of {step} along axis {axis} of {data}: nothing is there"
            )
        found[axis] = count
    return tuple(found)


def _infer_shuffle(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, group = shapes[0], integer(attributes, "group", 1)
    if len(data) != 4 or group < 1 or data[1] % group:
        raise GraphError(f"ChannelShuffle: {data} in {group} groups: expected an image whose channels they divide")
    return data


def _infer_flatten(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    axis = integer(attributes, "axis", 1)
    return (math.prod(shapes[0][:axis]), math.prod(shapes[0][axis:]))


def _infer_reshape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, wanted = shapes[0], ints(attributes, "shape")
    if math.prod(data) != math.prod(wanted) or min(wanted, default=1) < 1:
        raise GraphError(f"{data} as {wanted}: expected as many elements")
    return wanted


def _infer_transpose(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, perm = shapes[0], ints(attributes, "perm")
    if sorted(perm) != list(range(len(data))):
        raise GraphError(f"Transpose: perm {perm} of {data}: expected each of its axes once")
    return tuple(data[axis] for axis in perm)


def _infer_expand(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, wanted = shapes[0], ints(attributes, "shape")
    if len(data) != len(wanted) or any(n not in (1, m) for n, m in zip(data, wanted, strict=True)):
        raise GraphError(f"Expand: {data} to {wanted}: expected axes of size 1 or the one wanted")
    return wanted


MOVES: Mapping[str, OpInfo] = {
    "ChannelShuffle": OpInfo((1, 1), frozenset({"group"}), _infer_shuffle, no_macs),
    "Concat": OpInfo((1, _MANY), frozenset({"axis"}), _infer_concat, no_macs),
    "Expand": OpInfo((1, 1), frozenset({"shape"}), _infer_expand, no_macs),
    "Flatten": OpInfo((1, 1), frozenset({"axis"}), _infer_flatten, no_macs),
    "Reshape": OpInfo((1, 1), frozenset({"shape"}), _infer_reshape, no_macs),
    "Slice": OpInfo((1, 1), frozenset({"axes", "starts", "ends", "steps"}), _infer_slice, no_macs),
    "Transpose": OpInfo((1, 1), frozenset({"perm"}), _infer_transpose, no_macs),
}
