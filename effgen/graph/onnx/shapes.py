"""Operators that move values and compute none: channels taken out, joined and shuffled; images to rows of features."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from effgen.errors import GraphError
from effgen.graph.onnx.reader import Converter, OnnxNode, Pending, Reader
from effgen.graph.ops import Shape

#: How a shuffle's axes go: (batch, groups, channels of each, height, width).
_SHUFFLED = (0, 2, 1, 3, 4)


def reshape(reader: Reader, node: OnnxNode) -> None:
    data = reader.shape(node.inputs[0])
    wanted = [int(n) for n in np.atleast_1d(reader.constant(node, 1, "its shape"))]
    if not node.attributes.get("allowzero", 0):
        wanted = [data[axis] if n == 0 else n for axis, n in enumerate(wanted)]
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = math.prod(data) // max(rest, 1)
    _reshaped(reader, node, tuple(wanted))


def flatten(reader: Reader, node: OnnxNode) -> None:
    data = reader.shape(node.inputs[0])
    axis = node.attributes.get("axis", 1)
    axis += len(data) if axis < 0 else 0
    if axis == 1 and node.inputs[0] not in reader.pending:
        reader.emit("Flatten", [reader.tensor(node.inputs[0])], node.output, axis=1)
        return
    _reshaped(reader, node, (math.prod(data[:axis]), math.prod(data[axis:])))


def squeeze(reader: Reader, node: OnnxNode) -> None:
    data = reader.shape(node.inputs[0])
    axes = reader.integers(node, "axes", 1)
    dropped = {axis % len(data) for axis in axes} if axes else {i for i, n in enumerate(data) if n == 1}
    if any(data[axis] != 1 for axis in dropped):
        raise GraphError(f"axes {sorted(dropped)} of {data}: expected axes of size 1")
    _reshaped(reader, node, tuple(n for axis, n in enumerate(data) if axis not in dropped))


def unsqueeze(reader: Reader, node: OnnxNode) -> None:
    """An image of one channel again, where one was taken out by its number."""
    data = reader.shape(node.inputs[0])
    axes = reader.integers(node, "axes", 1) or ()
    rank = len(data) + len(axes)
    added = {axis % rank for axis in axes}
    if len(added) < len(axes):
        raise GraphError(f"axes {axes}: expected each once")
    waiting = reader.pending.get(node.inputs[0])
    if waiting is not None and waiting.kind == "Gather" and added == {1}:
        _slice(reader, waiting.source, waiting.detail[0], waiting.detail[0] + 1, node.output)
        return
    left = iter(data)
    _reshaped(reader, node, tuple(1 if axis in added else next(left) for axis in range(rank)))


def transpose(reader: Reader, node: OnnxNode) -> None:
    """The middle of a channel shuffle."""
    data = reader.shape(node.inputs[0])
    axes = tuple(node.attributes.get("perm", reversed(range(len(data)))))
    wanted = tuple(data[axis] for axis in axes)
    waiting = reader.pending.get(node.inputs[0])
    if waiting is not None and axes == _SHUFFLED and _is_grouped(waiting, reader.values[waiting.source].shape):
        reader.wait(node.output, Pending("Transpose", waiting.source, wanted, (data[1],)))
    elif [axis for axis in axes if data[axis] != 1] == [axis for axis, n in enumerate(data) if n != 1]:
        _reshaped(reader, node, wanted)
    else:
        raise GraphError(f"perm {axes} of {data}: expected a channel shuffle's {_SHUFFLED}")


def concat(reader: Reader, node: OnnxNode) -> None:
    tensors = [reader.tensor(name) for name in node.inputs]
    if len(tensors) == 1:
        reader.alias(node.output, tensors[0])
        return
    axis = node.attributes["axis"]
    axis += len(reader.values[tensors[0]].shape) if axis < 0 else 0
    reader.emit("Concat", tensors, node.output, axis=axis)


def slice_(reader: Reader, node: OnnxNode) -> None:
    """Channels that stand side by side."""
    data = reader.shape(node.inputs[0])
    starts, ends = reader.integers(node, "starts", 1), reader.integers(node, "ends", 2)
    axes, steps = reader.integers(node, "axes", 3), reader.integers(node, "steps", 4)
    if starts is None or ends is None:
        raise GraphError("no starts or no ends: expected both")
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    first, last = 0, data[1] if len(data) > 1 else 1
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = data[axis]
        low, high, _ = slice(start, end, step).indices(size)
        if (low, high, step) == (0, size, 1):
            continue
        if axis % len(data) != 1 or step != 1 or low >= high:
            raise GraphError(f"axis {axis}, {start} to {end} in steps of {step} of {data}: expected channels, step 1")
        first, last = low, high
    _slice(reader, reader.tensor(node.inputs[0]), first, last, node.output)


def split(reader: Reader, node: OnnxNode) -> None:
    """Several slices of channels."""
    source = reader.tensor(node.inputs[0])
    data = reader.values[source].shape
    axis = node.attributes.get("axis", 0) % len(data)
    if axis != 1:
        raise GraphError(f"axis {axis} of {data}: expected 1, channels")
    sizes = reader.integers(node, "split", 1)
    if sizes is None:
        each = -(-data[1] // len(node.outputs))
        sizes = tuple(min(each, data[1] - each * i) for i in range(len(node.outputs)))
    first = 0
    for size, output in zip(sizes, node.outputs, strict=True):
        _slice(reader, source, first, first + size, output)
        first += size


def gather(reader: Reader, node: OnnxNode) -> None:
    """One channel by its number, or some that stand side by side."""
    source = reader.tensor(node.inputs[0])
    data, indices = reader.values[source].shape, reader.constant(node, 1, "its indices")
    axis = node.attributes.get("axis", 0) % len(data)
    numbers = [int(n) % data[axis] for n in np.atleast_1d(indices)]
    if not numbers or axis != 1 or indices.ndim > 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise GraphError(f"indices {numbers} of axis {axis}: expected channels that stand side by side")
    if indices.ndim == 0:
        reader.wait(node.output, Pending("Gather", source, (data[0], *data[2:]), (numbers[0],)))
    else:
        _slice(reader, source, numbers[0], numbers[0] + len(numbers), node.output)


CONVERTERS: Mapping[str, Converter] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Concat": concat,
    "Slice": slice_,
    "Split": split,
    "Gather": gather,
}


def _slice(reader: Reader, source: str, first: int, last: int, output: str) -> None:
    if (first, last) == (0, reader.values[source].shape[1]):
        reader.alias(output, source)
    else:
        reader.emit("Slice", [source], output, start=first, end=last)


def _reshaped(reader: Reader, node: OnnxNode, wanted: Shape) -> None:
    """The data in another shape, as far as the Graph knows one: rows of features, or what it was before."""
    data = reader.shape(node.inputs[0])
    if math.prod(data) != math.prod(wanted):
        raise GraphError(f"{data} as {wanted}: expected as many elements")
    waiting = reader.pending.get(node.inputs[0])
    if waiting is not None:
        source, kind = waiting.source, waiting.kind
    else:
        source, kind = reader.tensor(node.inputs[0]), ""
    shape = reader.values[source].shape
    if kind == "Transpose" and wanted == shape:
        assert waiting is not None
        reader.emit("ChannelShuffle", [source], node.output, group=waiting.detail[0])
    elif kind in ("Transpose", "Pad", "Gather"):
        raise GraphError(f"{data} as {wanted}: the data is a {kind} that has to go on otherwise")
    elif wanted == shape:
        reader.alias(node.output, source)
    elif len(shape) > 2 and wanted == (shape[0], math.prod(shape[1:])):
        reader.emit("Flatten", [source], node.output, axis=1)
    elif (before := _before_flatten(reader, source, wanted)) is not None:
        reader.alias(node.output, before)
    else:
        # Five axes may become a channel shuffle; a pooled image may lose axes and get them back.
        reader.wait(node.output, Pending("Reshape", source, wanted, ()))


def _is_grouped(waiting: Pending, image: Shape) -> bool:
    """Whether a reshape gave an image's channels a second axis, and changed nothing else."""
    wanted = waiting.shape
    return waiting.kind == "Reshape" and len(wanted) == 5 and (wanted[0], *wanted[3:]) == (image[0], *image[2:])


def _before_flatten(reader: Reader, source: str, wanted: Shape) -> str | None:
    """The tensor that `source` was flattened from, if that is the shape wanted."""
    made = reader.maker(source)
    if made is None or made.op_type != "Flatten" or reader.values[made.inputs[0]].shape != wanted:
        return None
    return made.inputs[0]
