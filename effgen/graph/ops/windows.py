"""Operators that go over an image by windows or by positions: convolutions, pooling, padding, resizing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from effgen.errors import GraphError
from effgen.graph.ops.info import Attributes, OpInfo, Shape, integer, ints, no_macs, same_shape, text

#: What is put around an image: a number, its border again and again, or the image mirrored there.
PAD_MODES = ("constant", "edge", "reflect")


def _infer_conv(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, weight = shapes[0], shapes[1]
    groups = integer(attributes, "group", 1)
    if len(data) != 4 or len(weight) != 4:
        raise GraphError(f"Conv: expected 4-D data and weight, found {data} and {weight}")
    if groups < 1 or data[1] != weight[1] * groups or weight[0] % groups:
        raise GraphError(f"Conv: weight {weight} with group={groups} does not fit data {data}")
    if len(shapes) == 3 and shapes[2] != (weight[0],):
        raise GraphError(f"Conv: bias {shapes[2]}: expected ({weight[0]},)")
    return (data[0], weight[0], *_windows("Conv", data, weight[2:], attributes))


def _infer_conv_transpose(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """Weights are `[in, out / group, kh, kw]`; pads are cut off the whole image that the windows draw."""
    data, weight = shapes[0], shapes[1]
    groups = integer(attributes, "group", 1)
    if len(data) != 4 or len(weight) != 4:
        raise GraphError(f"ConvTranspose: expected 4-D data and weight, found {data} and {weight}")
    if groups < 1 or data[1] != weight[0] or weight[0] % groups:
        raise GraphError(f"ConvTranspose: weight {weight} with group={groups} does not fit data {data}")
    channels = weight[1] * groups
    if len(shapes) == 3 and shapes[2] != (channels,):
        raise GraphError(f"ConvTranspose: bias {shapes[2]}: expected ({channels},)")
    pads, strides = ints(attributes, "pads"), ints(attributes, "strides")
    dilations, more = ints(attributes, "dilations", (1, 1)), ints(attributes, "output_padding", (0, 0))
    _check_counts("ConvTranspose", (("pads", pads, 4, None), ("strides", strides, 2, 1), ("dilations", dilations, 2, 1),
                                    ("output_padding", more, 2, 0)))  # fmt: skip
    spatial = tuple(
        (data[2 + i] - 1) * strides[i] + (weight[2 + i] - 1) * dilations[i] + 1 + more[i] - pads[i] - pads[2 + i]
        for i in range(2)
    )
    if min(spatial) < 1:
        raise GraphError(f"ConvTranspose: pads {pads} leave nothing of the image: {spatial}")
    return (data[0], channels, *spatial)


def _check_counts(op_type: str, found: Sequence[tuple[str, tuple[int, ...], int, int | None]]) -> None:
    for name, values, count, least in found:
        if len(values) != count or (least is not None and min(values) < least):
            bound = "" if least is None else f", {least} or more"
            raise GraphError(f"{op_type}: {name} {values}: expected {count} numbers{bound}")


def _windows(op_type: str, data: Shape, kernel: Shape, attributes: Attributes) -> tuple[int, int]:
    """How many windows fit into the padded image, downwards and across."""
    pads, strides = ints(attributes, "pads", (0, 0, 0, 0)), ints(attributes, "strides", (1, 1))
    dilations = ints(attributes, "dilations", (1, 1))
    _check_counts(
        op_type,
        (("pads", pads, 4, 0), ("strides", strides, 2, 1), ("dilations", dilations, 2, 1), ("kernel", kernel, 2, 1)),
    )
    top, left, bottom, right = pads
    padded = (data[2] + top + bottom, data[3] + left + right)
    window = tuple((kernel[i] - 1) * dilations[i] + 1 for i in range(2))
    if window[0] > padded[0] or window[1] > padded[1]:
        raise GraphError(f"{op_type}: kernel {window} is larger than the padded image {padded}")
    down, across = ((padded[i] - window[i]) // strides[i] + 1 for i in range(2))
    return down, across


def _conv_macs(shapes: Sequence[Shape], output: Shape) -> int:
    return math.prod(output) * math.prod(shapes[1][1:])


def _conv_transpose_macs(shapes: Sequence[Shape], output: Shape) -> int:
    return math.prod(shapes[0]) * math.prod(shapes[1][1:])


def _infer_global(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    if len(shapes[0]) != 4:
        raise GraphError(f"GlobalAveragePool: expected 4-D data, found {shapes[0]}")
    return (*shapes[0][:2], 1, 1)


def _infer_pool(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, kernel = shapes[0], ints(attributes, "kernel_shape", (1, 1))
    if len(data) != 4:
        raise GraphError(f"pooling: expected 4-D data, found {data}")
    spatial = _windows("pooling", data, kernel, attributes)
    pads, dilations = ints(attributes, "pads", (0, 0, 0, 0)), ints(attributes, "dilations", (1, 1))
    window = tuple((kernel[i] - 1) * dilations[i] + 1 for i in range(2))
    if any(pad >= window[i % 2] for i, pad in enumerate(pads)):
        raise GraphError(f"pooling: pads {pads}: a window {window} may lie beyond the image; expected less than it")
    return (*data[:2], *spatial)


def _infer_pad(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, pads, mode = shapes[0], ints(attributes, "pads"), text(attributes, "mode")
    if len(pads) != 2 * len(data) or min(pads, default=0) < 0:
        raise GraphError(f"Pad: pads {pads} of {data}: expected a number for each side, 0 or more")
    if mode not in PAD_MODES:
        raise GraphError(f"Pad: mode {mode}: expected one of {', '.join(PAD_MODES)}")
    for axis, size in enumerate(data):
        if mode == "reflect" and max(pads[axis], pads[axis + len(data)]) > size - 1:
            raise GraphError(
                f"Pad: pads {pads} of {data}: a mirror has no more than {size - 1} to put beside axis {axis}"
            )
    return tuple(size + pads[axis] + pads[axis + len(data)] for axis, size in enumerate(data))


def _infer_resize(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    data, sizes = shapes[0], ints(attributes, "sizes")
    if len(data) != 4 or len(sizes) != 2 or min(sizes) < 1:
        raise GraphError(f"Resize: {data} to height and width {sizes}: expected an image and two sizes")
    return (*data[:2], *sizes)


def _infer_lrn(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    if len(shapes[0]) != 4 or integer(attributes, "size", 1) < 1:
        raise GraphError(f"LRN: {shapes[0]}, size {attributes['size']}: expected an image and a size of 1 or more")
    return same_shape(shapes, attributes)


_WINDOW = frozenset({"kernel_shape", "pads", "strides"})
_CONV = frozenset({"group", "pads", "strides"})

WINDOWS: Mapping[str, OpInfo] = {
    "Conv": OpInfo((2, 3), _CONV, _infer_conv, _conv_macs, optional=frozenset({"dilations"})),
    "ConvTranspose": OpInfo(
        (2, 3),
        _CONV,
        _infer_conv_transpose,
        _conv_transpose_macs,
        optional=frozenset({"dilations", "output_padding"}),
    ),
    "GlobalAveragePool": OpInfo((1, 1), frozenset(), _infer_global, no_macs),
    # "beyond": rows and columns at the end of the pads to which only `ceil_mode` leads; a mean never counts them.
    "MaxPool": OpInfo((1, 1), _WINDOW, _infer_pool, no_macs, optional=frozenset({"dilations", "beyond"})),
    "AveragePool": OpInfo(
        (1, 1), _WINDOW | {"count_include_pad"}, _infer_pool, no_macs, optional=frozenset({"beyond"})
    ),
    # "value" is what a constant border holds.
    "Pad": OpInfo((1, 1), frozenset({"pads", "mode", "value"}), _infer_pad, no_macs),
    # Of height and width alone; `scales` are what the coordinates are computed by. effgen.graph.resize says how.
    "Resize": OpInfo(
        (1, 1),
        frozenset({"sizes", "scales", "mode", "coordinate_transformation_mode", "nearest_mode"}),
        _infer_resize,
        no_macs,
        optional=frozenset({"cubic_coeff_a", "exclude_outside", "antialias"}),
    ),
    "LRN": OpInfo((1, 1), frozenset({"size", "alpha", "beta", "bias"}), _infer_lrn, no_macs),
}
