"""Convolutions and pooling, and the padding before them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from effgen.errors import GraphError
from effgen.graph.onnx.reader import Converter, OnnxNode, Pending, Reader
from effgen.graph.ops import AttributeValue, Shape

#: Activations that give no value below zero: a window's maximum is then the same with zeros around the image.
_NOT_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid")


def conv(reader: Reader, node: OnnxNode) -> None:
    """`dilations` stay where they are not 1; `auto_pad` becomes `pads`, and zeros put around the image join them."""
    weight = reader.constant(node, 1, "its weight")
    if weight.ndim != 4:
        raise GraphError(f"weight of shape {weight.shape}: expected a convolution of images, [out, in, kh, kw]")
    source, border = _padded(reader, node)
    window = _WindowNode(node, reader.values[source].shape, weight.shape[2:], border)
    inputs = [source, reader.parameter(node.inputs[1], weight, "kernel")]
    if reader.has_input(node, 2):
        inputs.append(reader.parameter(node.inputs[2], reader.constant(node, 2, "its bias"), "bias"))
    group = node.attributes.get("group", 1)
    reader.emit("Conv", inputs, node.output, group=group, pads=window.pads, strides=window.strides, **window.dilated)


def max_pool(reader: Reader, node: OnnxNode) -> None:
    source, border = _padded(reader, node)
    maker = reader.maker(source)
    if any(border) and (maker is None or maker.op_type not in _NOT_NEGATIVE):
        raise GraphError("zeros around an image that may be negative: expected the pooling's own pads")
    window = _WindowNode(node, reader.values[source].shape, _kernel(node), border)
    pads = _with_rest(window.pads, window.rest)
    if _does_nothing(window, pads):
        reader.alias(node.output, source)
        return
    attributes: dict[str, AttributeValue] = {"kernel_shape": window.kernel, "pads": pads, "strides": window.strides}
    reader.emit("MaxPool", [source], node.output, **attributes, **window.dilated, **window.beyond(counted=False))


def average_pool(reader: Reader, node: OnnxNode) -> None:
    """Over the whole image it is a GlobalAveragePool."""
    source, border = _padded(reader, node)
    shape = reader.values[source].shape
    window = _WindowNode(node, shape, _kernel(node), border)
    counted = node.attributes.get("count_include_pad", 0)
    if any(border):
        # The Graph has one set of pads: counted, as the zeros around the image are, or not.
        if window.pads != border and not counted:
            raise GraphError("zeros around the image, and pads that are not counted: expected one of them")
        counted = 1
    if window.dilated:
        raise GraphError(f"dilations = {window.dilations}: expected 1")
    pads = _with_rest(window.pads, window.rest)
    if _does_nothing(window, pads):
        reader.alias(node.output, source)
    elif window.kernel == shape[2:] and not any(pads):
        reader.emit("GlobalAveragePool", [source], node.output)
    else:
        if not any(pads):
            counted = 0
        attributes: dict[str, AttributeValue] = {"kernel_shape": window.kernel, "pads": pads, "strides": window.strides}
        attributes |= window.beyond(counted=bool(counted))
        reader.emit("AveragePool", [source], node.output, count_include_pad=counted, **attributes)


def global_average_pool(reader: Reader, node: OnnxNode) -> None:
    reader.emit("GlobalAveragePool", [reader.tensor(node.inputs[0])], node.output)


def global_max_pool(reader: Reader, node: OnnxNode) -> None:
    source = reader.tensor(node.inputs[0])
    kernel = reader.values[source].shape[2:]
    reader.emit("MaxPool", [source], node.output, kernel_shape=kernel, pads=(0, 0, 0, 0), strides=(1, 1))


def reduce_mean(reader: Reader, node: OnnxNode) -> None:
    """Over height and width: GlobalAveragePool, flattened where the axes are not kept."""
    source = reader.tensor(node.inputs[0])
    rank = len(reader.values[source].shape)
    axes = reader.integers(node, "axes", 1)
    if rank != 4 or axes is None or {axis % rank for axis in axes} != {2, 3}:
        raise GraphError(f"axes {axes} of {rank}: expected height and width, 2 and 3")
    if node.attributes.get("keepdims", 1):
        reader.emit("GlobalAveragePool", [source], node.output)
        return
    pooled = reader.emit("GlobalAveragePool", [source], f"{node.output}.pool")
    reader.emit("Flatten", [pooled], node.output, axis=1)


def pad(reader: Reader, node: OnnxNode) -> None:
    """Zeros around an image wait for the convolution or pooling that reads them."""
    source, shape = reader.tensor(node.inputs[0]), reader.shape(node.inputs[0])
    pads = reader.integers(node, "pads", 1)
    mode = node.attributes.get("mode", "constant")
    value = node.attributes.get("value", 0.0)
    if reader.has_input(node, 2):
        value = reader.number(node, 2, "its value")
    if reader.has_input(node, 3):
        pads = _on_all_axes(pads, reader.integers(node, "axes", 3), len(shape))
    if pads is None or len(pads) != 2 * len(shape):
        raise GraphError(f"pads {pads}: expected a constant number for each side of {shape}")
    if not any(pads):
        reader.alias(node.output, source)
        return
    if len(shape) != 4 or any(pads[:2]) or any(pads[4:6]) or min(pads) < 0 or mode != "constant" or value != 0:
        raise GraphError(f"pads {pads}, mode {mode}, value {value:g}: expected zeros around an image")
    border = (pads[2], pads[3], pads[6], pads[7])
    padded = (*shape[:2], shape[2] + border[0] + border[2], shape[3] + border[1] + border[3])
    reader.wait(node.output, Pending("Pad", source, padded, border))


CONVERTERS: Mapping[str, Converter] = {
    "Conv": conv,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "ReduceMean": reduce_mean,
    "Pad": pad,
}


class _WindowNode:
    """A node's window over images of shape `data`, around which `border` (top, left, bottom, right) zeros were put.

    `rest`: rows and columns that the last windows reach beyond all padding (ceil_mode).
    """

    def __init__(self, node: OnnxNode, data: Shape, kernel: Shape, border: tuple[int, ...]) -> None:
        if len(data) != 4:
            raise GraphError(f"data of shape {data}: expected images, (batch, channels, height, width)")
        self.kernel = tuple(kernel)
        self.strides: tuple[int, ...] = tuple(node.attributes.get("strides", (1, 1)))
        dilations = tuple(node.attributes.get("dilations", (1, 1)))
        # One pixel cannot be spread.
        self.dilations = tuple(1 if size == 1 else step for size, step in zip(self.kernel, dilations, strict=True))
        self.rest: tuple[int, int] = (0, 0)
        self.dropped = False
        size = (data[2] + border[0] + border[2], data[3] + border[1] + border[3])
        own = self._own_pads(node, size)
        self.pads = tuple(a + b for a, b in zip(own, border, strict=True))
        if node.attributes.get("ceil_mode", 0):
            self.rest = (self._reach(0, size[0], own), self._reach(1, size[1], own))

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
            pads: tuple[int, ...] = tuple(node.attributes.get("pads", (0, 0, 0, 0)))
            return pads
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


def _padded(reader: Reader, node: OnnxNode) -> tuple[str, tuple[int, ...]]:
    """The Graph's tensor under a window, and the zeros that a Pad put around it."""
    waiting = reader.pending.get(node.inputs[0])
    if waiting is not None and waiting.kind == "Pad":
        return waiting.source, waiting.detail
    return reader.tensor(node.inputs[0]), (0, 0, 0, 0)


def _kernel(node: OnnxNode) -> Shape:
    kernel = tuple(node.attributes["kernel_shape"])
    if len(kernel) != 2:
        raise GraphError(f"kernel_shape = {kernel}: expected two numbers")
    return kernel


def _with_rest(pads: tuple[int, ...], rest: tuple[int, int]) -> tuple[int, ...]:
    return (*pads[:2], pads[2] + rest[0], pads[3] + rest[1])


def _does_nothing(window: _WindowNode, pads: tuple[int, ...]) -> bool:
    return window.kernel == (1, 1) and window.strides == (1, 1) and not any(pads)


def _on_all_axes(pads: tuple[int, ...] | None, axes: tuple[int, ...] | None, rank: int) -> tuple[int, ...] | None:
    """Pads of the axes named, as pads of all."""
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        return None
    whole = np.zeros((2, rank), int)
    for index, axis in enumerate(axes):
        whole[:, axis] = pads[index], pads[index + len(axes)]
    return tuple(int(n) for n in whole.ravel())
