"""Convolutions and pooling; rows of one dimension are images of one pixel's height."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from effgen.errors import GraphError
from effgen.graph.onnx.reader import AnyArray, Converter, OnnxNode, Reader
from effgen.graph.ops import AttributeValue, Shape


def conv(reader: Reader, node: OnnxNode) -> None:
    """`dilations` stay where they are not 1; `auto_pad` becomes `pads`."""
    weight = reader.constant(node, 1, "its weight")
    source = _as_images(reader, node)
    if weight.ndim != _dims(reader, node) + 2:
        raise GraphError(f"weight of shape {weight.shape}: expected a convolution of images, [out, in, kh, kw]")
    name, weight = _as_kernel(node.inputs[1], weight)
    window = _WindowNode(node, reader.values[source].shape, weight.shape[2:], _dims(reader, node))
    inputs = [source, reader.parameter(name, weight, "kernel"), *_bias(reader, node)]
    group = node.attributes.get("group", 1)
    attributes: dict[str, AttributeValue] = {"group": group, "pads": window.pads, "strides": window.strides}
    _as_they_were(reader, node, "Conv", inputs, {**attributes, **window.dilated})


def conv_transpose(reader: Reader, node: OnnxNode) -> None:
    """`output_shape` and `auto_pad` become `pads`."""
    weight = reader.constant(node, 1, "its weight")
    source = _as_images(reader, node)
    if weight.ndim != _dims(reader, node) + 2:
        raise GraphError(f"weight of shape {weight.shape}: expected a convolution of images, [in, out, kh, kw]")
    name, weight = _as_kernel(node.inputs[1], weight)
    attributes = _drawn(node, reader.values[source].shape, weight.shape[2:], _dims(reader, node))
    inputs = [source, reader.parameter(name, weight, "kernel"), *_bias(reader, node)]
    _as_they_were(reader, node, "ConvTranspose", inputs, attributes)


def _drawn(node: OnnxNode, data: Shape, kernel: Shape, dims: int) -> dict[str, AttributeValue]:
    """What a ConvTranspose is told, all of it explicit."""
    strides, dilations = (_pair(node, key, 1, dims) for key in ("strides", "dilations"))
    more, asked = _pair(node, "output_padding", 0, dims), node.attributes.get("output_shape")
    auto = node.attributes.get("auto_pad", "NOTSET")
    pads = [0, 0, 0, 0] if auto != "NOTSET" else list(_four(node, dims))
    for axis in (0, 1):
        whole = (data[2 + axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 + more[axis]
        if asked is not None:
            wanted = (1, *asked)[-2:][axis]
        elif auto.startswith("SAME"):
            wanted = data[2 + axis] * strides[axis]
        else:
            continue
        total = whole - wanted
        # As ONNX has it: the odd pixel goes to the front only where SAME_UPPER says otherwise.
        less = total // 2
        pads[axis], pads[axis + 2] = (less, total - less) if auto == "SAME_UPPER" else (total - less, less)
    more = _beyond(pads, more)
    attributes: dict[str, AttributeValue] = {
        "group": node.attributes.get("group", 1),
        "pads": tuple(max(pad, 0) for pad in pads),
        "strides": strides,
    }
    return attributes | {
        key: value
        for key, value, usual in (("dilations", dilations, (1, 1)), ("output_padding", more, (0, 0)))
        if value != usual
    }


def _beyond(pads: list[int], more: tuple[int, int]) -> tuple[int, int]:
    """`output_padding` with what pads below 0 ask for behind the image."""
    if min(pads[:2]) < 0:
        raise GraphError(f"pads {pads}: rows before the first window's are asked for; expected 0 or more")
    down, across = (more[axis] + max(-pads[axis + 2], 0) for axis in (0, 1))
    return down, across


def max_pool(reader: Reader, node: OnnxNode) -> None:
    if any(reader.is_read(name) for name in node.outputs[1:]):
        raise GraphError("its second output, where the maxima stood, is read: expected the maxima alone")
    source, dims = _as_images(reader, node), _dims(reader, node)
    window = _WindowNode(node, reader.values[source].shape, _kernel(node, dims), dims)
    pads = _with_rest(window.pads, window.rest)
    if _does_nothing(window, pads):
        reader.alias(node.output, reader.tensor(node.inputs[0]))
        return
    attributes: dict[str, AttributeValue] = {"kernel_shape": window.kernel, "pads": pads, "strides": window.strides}
    _as_they_were(reader, node, "MaxPool", [source], {**attributes, **window.dilated, **window.beyond(counted=False)})


def average_pool(reader: Reader, node: OnnxNode) -> None:
    """Over the whole image it is a GlobalAveragePool."""
    source, dims = _as_images(reader, node), _dims(reader, node)
    shape = reader.values[source].shape
    window = _WindowNode(node, shape, _kernel(node, dims), dims)
    if window.dilated:
        raise GraphError(f"dilations = {window.dilations}: expected 1")
    pads = _with_rest(window.pads, window.rest)
    if _does_nothing(window, pads):
        reader.alias(node.output, reader.tensor(node.inputs[0]))
    elif window.kernel == shape[2:] and not any(pads):
        _as_they_were(reader, node, "GlobalAveragePool", [source], {})
    else:
        counted = node.attributes.get("count_include_pad", 0) if any(pads) else 0
        attributes: dict[str, AttributeValue] = {"kernel_shape": window.kernel, "pads": pads, "strides": window.strides}
        attributes |= window.beyond(counted=bool(counted))
        _as_they_were(reader, node, "AveragePool", [source], {"count_include_pad": counted, **attributes})


CONVERTERS: Mapping[str, Converter] = {
    "AveragePool": average_pool,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
}


def _as_images(reader: Reader, node: OnnxNode) -> str:
    """The data, or (batch, channels, length) as images of height 1."""
    source = reader.tensor(node.inputs[0])
    shape = reader.values[source].shape
    if len(shape) == 3:
        return reader.reshaped(source, (*shape[:2], 1, shape[2]), f"{node.output}.image")
    if len(shape) != 4:
        raise GraphError(f"data of shape {shape}: expected images, (batch, channels, height, width)")
    return source


def _dims(reader: Reader, node: OnnxNode) -> int:
    """Of what windows go over: 2 of images, 1 of rows."""
    return len(reader.shape(node.inputs[0])) - 2


def _as_kernel(name: str, weight: AnyArray) -> tuple[str, AnyArray]:
    return (name, weight) if weight.ndim == 4 else (f"{name}.image", np.ascontiguousarray(weight[:, :, None, :]))


def _as_they_were(
    reader: Reader, node: OnnxNode, op_type: str, inputs: list[str], attributes: Mapping[str, AttributeValue]
) -> None:
    """The node's output, of as many axes as its data has."""
    if len(reader.shape(node.inputs[0])) == 4:
        reader.emit(op_type, inputs, node.output, **attributes)
        return
    image = reader.emit(op_type, inputs, reader.fresh(f"{node.output}.image"), **attributes)
    n, c, _, length = reader.values[image].shape
    reader.emit("Reshape", [image], node.output, shape=(n, c, length))


def _bias(reader: Reader, node: OnnxNode) -> list[str]:
    if not reader.has_input(node, 2):
        return []
    return [reader.parameter(node.inputs[2], reader.constant(node, 2, "its bias"), "bias")]


def _numbers(node: OnnxNode, key: str, usual: int, count: int) -> tuple[int, ...]:
    """An attribute of `count` numbers. Raises GraphError for one of another length."""
    values = tuple(node.attributes.get(key, (usual,) * count))
    if len(values) != count:
        raise GraphError(f"{key} = {values}: expected {count} numbers")
    return values


def _pair(node: OnnxNode, key: str, usual: int, dims: int) -> tuple[int, int]:
    """An attribute for height and width; of rows, which have one dimension, there is one number."""
    values = _numbers(node, key, usual, dims)
    first, second = (usual, *values) if dims == 1 else values
    return first, second


def _four(node: OnnxNode, dims: int) -> tuple[int, int, int, int]:
    """`pads`: top, left, bottom, right."""
    values = _numbers(node, "pads", 0, 2 * dims)
    top, left, bottom, right = (0, values[0], 0, values[1]) if dims == 1 else values
    return top, left, bottom, right


class _WindowNode:
    """A node's window over images of shape `data`.

    `rest`: rows and columns that the last windows reach beyond all padding (ceil_mode).
    """

    def __init__(self, node: OnnxNode, data: Shape, kernel: Shape, dims: int) -> None:
        self.kernel = tuple(kernel)
        self.dims = dims
        self.strides, dilations = (_pair(node, key, 1, dims) for key in ("strides", "dilations"))
        # One pixel cannot be spread.
        self.dilations = tuple(1 if size == 1 else step for size, step in zip(self.kernel, dilations, strict=True))
        self.rest: tuple[int, int] = (0, 0)
        self.dropped = False
        size = (data[2], data[3])
        self.pads = self._own_pads(node, size)
        if node.attributes.get("ceil_mode", 0):
            self.rest = (self._reach(0, size[0], self.pads), self._reach(1, size[1], self.pads))

    @property
    def dilated(self) -> dict[str, AttributeValue]:
        return {} if self.dilations == (1, 1) else {"dilations": self.dilations}

    def beyond(self, counted: bool) -> dict[str, AttributeValue]:
        """What has to be told apart from pads: what a mean does not count, and more than pads may be."""
        wide = any(pad >= self.kernel[i % 2] for i, pad in enumerate(_with_rest(self.pads, self.rest)))
        if not any(self.rest) or not (counted or wide):
            return {}
        if self.dropped:
            raise GraphError("ceil_mode reaches past the padding along one axis and behind the image along the other")
        return {"beyond": self.rest}

    def _extent(self, axis: int) -> int:
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def _own_pads(self, node: OnnxNode, size: tuple[int, int]) -> tuple[int, ...]:
        auto = node.attributes.get("auto_pad", "NOTSET")
        if auto == "NOTSET":
            return _four(node, self.dims)
        if auto == "VALID":
            return (0, 0, 0, 0)
        if auto not in ("SAME_UPPER", "SAME_LOWER"):
            raise GraphError(f"auto_pad = {auto}: expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
        before, after = [], []
        for axis in (0, 1):
            count = -(-size[axis] // self.strides[axis])
            total = max((count - 1) * self.strides[axis] + self._extent(axis) - size[axis], 0)
            less, more = total // 2, total - total // 2
            before.append(less if auto == "SAME_UPPER" else more)
            after.append(more if auto == "SAME_UPPER" else less)
        return (*before, *after)

    def _reach(self, axis: int, size: int, pads: tuple[int, ...]) -> int:
        """How far the windows of `ceil_mode` reach past the padding; none starts behind the image."""
        padded, stride = size + pads[axis] + pads[axis + 2], self.strides[axis]
        count = -(-(padded - self._extent(axis)) // stride) + 1
        if (count - 1) * stride >= size + pads[axis]:
            count -= 1
            self.dropped = True
        return max((count - 1) * stride + self._extent(axis) - padded, 0)


def _kernel(node: OnnxNode, dims: int) -> Shape:
    if len(kernel := tuple(node.attributes["kernel_shape"])) != dims:
        raise GraphError(f"kernel_shape = {kernel}: expected {dims} numbers")
    return (1, *kernel) if dims == 1 else kernel


def _with_rest(pads: tuple[int, ...], rest: tuple[int, int]) -> tuple[int, ...]:
    return (*pads[:2], pads[2] + rest[0], pads[3] + rest[1])


def _does_nothing(window: _WindowNode, pads: tuple[int, ...]) -> bool:
    return window.kernel == (1, 1) and window.strides == (1, 1) and not any(pads)
