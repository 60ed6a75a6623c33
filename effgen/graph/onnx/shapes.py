"""Operators that move values and compute none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from effgen.errors import GraphError
from effgen.graph.onnx.reader import Converter, OnnxNode, Reader
from effgen.graph.ops import Shape

#: The most pieces that a Gather of scattered indices or a Tile is made of.
_MOST_PIECES = 4096


def reshape(reader: Reader, node: OnnxNode) -> None:
    data = reader.shape(node.inputs[0])
    wanted = [int(n) for n in reader.integers(node, "shape", 1) or ()]
    if not node.attributes.get("allowzero", 0):
        wanted = [data[axis] if n == 0 else n for axis, n in enumerate(wanted)]
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = math.prod(data) // max(rest, 1)
    _reshape(reader, node, tuple(wanted))


def flatten(reader: Reader, node: OnnxNode) -> None:
    data = reader.shape(node.inputs[0])
    axis = node.attributes.get("axis", 1)
    axis += len(data) if axis < 0 else 0
    _reshape(reader, node, (math.prod(data[:axis]), math.prod(data[axis:])))


def squeeze(reader: Reader, node: OnnxNode) -> None:
    data = reader.shape(node.inputs[0])
    axes = reader.integers(node, "axes", 1)
    dropped = {reader.axis(axis, len(data)) for axis in axes} if axes else {i for i, n in enumerate(data) if n == 1}
    if any(data[axis] != 1 for axis in dropped):
        raise GraphError(f"axes {sorted(dropped)} of {data}: expected axes of size 1")
    _reshape(reader, node, tuple(n for axis, n in enumerate(data) if axis not in dropped))


def unsqueeze(reader: Reader, node: OnnxNode) -> None:
    data = reader.shape(node.inputs[0])
    axes = reader.integers(node, "axes", 1) or ()
    rank = len(data) + len(axes)
    added = {reader.axis(axis, rank) for axis in axes}
    if len(added) < len(axes):
        raise GraphError(f"axes {axes}: expected each once")
    left = iter(data)
    _reshape(reader, node, tuple(1 if axis in added else next(left) for axis in range(rank)))


def transpose(reader: Reader, node: OnnxNode) -> None:
    source = reader.tensor(node.inputs[0])
    rank = reader.rank(source)
    perm = tuple(node.attributes.get("perm", reversed(range(rank))))
    if perm == tuple(range(rank)):
        reader.alias(node.output, source)
    else:
        reader.emit("Transpose", [source], node.output, perm=perm)


def expand(reader: Reader, node: OnnxNode) -> None:
    """To a shape that the data's broadcasts with: an axis that is 1 there stays as it is."""
    source = reader.tensor(node.inputs[0])
    asked = tuple(int(n) for n in np.atleast_1d(reader.constant(node, 1, "its shape")))
    try:
        wanted = np.broadcast_shapes(reader.values[source].shape, asked)
    except ValueError:
        raise GraphError(f"{reader.values[source].shape} to {asked}: expected shapes that broadcast") from None
    rank = len(wanted)
    own = reader.values[source].shape
    source = reader.reshaped(source, (1,) * (rank - len(own)) + own, f"{node.output}.operand")
    if reader.values[source].shape == wanted:
        reader.alias(node.output, source)
    else:
        reader.emit("Expand", [source], node.output, shape=tuple(wanted))


def tile(reader: Reader, node: OnnxNode) -> None:
    source = reader.tensor(node.inputs[0])
    repeats = [int(n) for n in np.atleast_1d(reader.constant(node, 1, "its repeats"))]
    if len(repeats) != reader.rank(source) or min(repeats, default=1) < 1 or max(repeats, default=1) > _MOST_PIECES:
        raise GraphError(f"repeats {repeats} of {reader.values[source].shape}: expected a number of 1 or more an axis")
    for axis, count in enumerate(repeats):
        if count > 1:
            source = reader.emit("Concat", [source] * count, reader.fresh(f"{node.output}.{axis}"), axis=axis)
    reader.alias(node.output, source)


def concat(reader: Reader, node: OnnxNode) -> None:
    if len(node.inputs) == 1:
        reader.alias(node.output, reader.tensor(node.inputs[0]))
        return
    tensors = [reader.operand(name) for name in node.inputs if 0 not in reader.shape(name)]
    axis = reader.axis(node.attributes["axis"], len(reader.shape(node.inputs[0])))
    reader.emit("Concat", tensors, node.output, axis=axis)


def slice_(reader: Reader, node: OnnxNode) -> None:
    data = reader.shape(node.inputs[0])
    starts, ends = reader.integers(node, "starts", 1), reader.integers(node, "ends", 2)
    axes, steps = reader.integers(node, "axes", 3), reader.integers(node, "steps", 4)
    if starts is None or ends is None:
        raise GraphError("no starts or no ends: expected both")
    axes = tuple(range(len(starts))) if axes is None else tuple(reader.axis(axis, len(data)) for axis in axes)
    steps = (1,) * len(starts) if steps is None else steps
    cuts = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        low, high, step = slice(start, end, step).indices(data[axis])
        if not range(low, high, step):
            raise GraphError(f"axis {axis}, {start} to {end} in steps of {step} of {data}: nothing is left")
        cuts[axis] = (low, high, step)
    cut(reader, reader.tensor(node.inputs[0]), cuts, node.output)


def cut(reader: Reader, source: str, cuts: Mapping[int, tuple[int, int, int]], output: str) -> None:
    """Parts of some axes: from start to before end in steps; what is all of an axis is left out."""
    shape = reader.values[source].shape
    kept = {axis: found for axis, found in sorted(cuts.items()) if found != (0, shape[axis], 1)}
    if not kept:
        reader.alias(output, source)
        return
    starts, ends, steps = zip(*kept.values(), strict=True)
    reader.emit("Slice", [source], output, axes=tuple(kept), starts=starts, ends=ends, steps=steps)


def split(reader: Reader, node: OnnxNode) -> None:
    """Several slices."""
    source = reader.tensor(node.inputs[0])
    data = reader.values[source].shape
    axis = reader.axis(node.attributes.get("axis", 0), len(data))
    sizes = reader.integers(node, "split", 1)
    if sizes is None:
        count = node.attributes.get("num_outputs", len(node.outputs))
        each = -(-data[axis] // count)
        sizes = tuple(min(each, data[axis] - each * i) for i in range(count))
    if sum(sizes) != data[axis] or min(sizes) < 1:
        raise GraphError(f"{sizes} of axis {axis} of {data}: expected sizes that add up to it")
    first = 0
    for size, output in zip(sizes, node.outputs, strict=True):
        if output:
            cut(reader, source, {axis: (first, first + size, 1)}, output)
        first += size


def gather(reader: Reader, node: OnnxNode) -> None:
    """By constant indices: as few slices as they are made of, joined."""
    source = reader.tensor(node.inputs[0])
    data, indices = reader.values[source].shape, reader.constant(node, 1, "its indices")
    axis = reader.axis(node.attributes.get("axis", 0), len(data))
    numbers = [int(n) % data[axis] for n in indices.ravel() if -data[axis] <= n < data[axis]]
    if not numbers or len(numbers) < indices.size:
        raise GraphError(f"indices of axis {axis} of {data}: expected some of its numbers")
    wanted = (*data[:axis], *indices.shape, *data[axis + 1 :])
    taken = _taken(reader, source, axis, numbers, node.output if indices.ndim == 1 else f"{node.output}.taken")
    if indices.ndim == 1:
        reader.alias(node.output, taken)
    else:
        reader.alias(node.output, reader.reshaped(taken, wanted, node.output))


def _taken(reader: Reader, source: str, axis: int, numbers: Sequence[int], output: str) -> str:
    """The elements of an axis with these numbers, one after another."""
    runs = _runs(numbers)
    if len(runs) > _MOST_PIECES:
        raise GraphError(f"{len(runs)} stretches of axis {axis}: expected at most {_MOST_PIECES}")
    parts = []
    for index, run in enumerate(runs):
        name = reader.fresh(output if len(runs) == 1 else f"{output}.{index}")
        cut(reader, source, {axis: run}, name)
        parts.append(reader.tensor(name))
    return parts[0] if len(parts) == 1 else reader.emit("Concat", parts, reader.fresh(output), axis=axis)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int, int]]:
    """Numbers as stretches from start to before end in equal steps, up or down."""
    runs: list[tuple[int, int, int]] = []
    start = 0
    while start < len(numbers):
        stop, step = start + 1, 1
        if stop < len(numbers) and numbers[stop] != numbers[start]:
            step = numbers[stop] - numbers[start]
            while stop < len(numbers) and numbers[stop] - numbers[stop - 1] == step:
                stop += 1
        runs.append((numbers[start], numbers[stop - 1] + (1 if step > 0 else -1), step))
        start = stop
    return runs


def depth_to_space(reader: Reader, node: OnnxNode) -> None:
    """Channels become the pixels of a block (DCR: the block's position first among them, CRD: last)."""
    n, c, h, w = _image(reader, node)
    block = int(node.attributes["blocksize"])
    if block < 1 or c % (block * block):
        raise GraphError(f"blocks of {block} from {c} channels: expected their squares to divide them")
    depth = c // (block * block)
    if node.attributes.get("mode", "DCR") == "CRD":
        split_shape, perm = (n, depth, block, block, h, w), (0, 1, 4, 2, 5, 3)
    else:
        split_shape, perm = (n, block, block, depth, h, w), (0, 3, 4, 1, 5, 2)
    _through(reader, node, split_shape, perm, (n, depth, h * block, w * block))


def space_to_depth(reader: Reader, node: OnnxNode) -> None:
    """The pixels of a block become channels (DCR: their position first among them, CRD: last)."""
    n, c, h, w = _image(reader, node)
    block = int(node.attributes["blocksize"])
    if block < 1 or h % block or w % block:
        raise GraphError(f"blocks of {block} of {h}x{w} pixels: expected a number that divides them")
    split_shape = (n, c, h // block, block, w // block, block)
    perm = (0, 1, 3, 5, 2, 4) if node.attributes.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    _through(reader, node, split_shape, perm, (n, c * block * block, h // block, w // block))


CONVERTERS: Mapping[str, Converter] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Reshape": reshape,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}


def _image(reader: Reader, node: OnnxNode) -> tuple[int, int, int, int]:
    shape = reader.shape(node.inputs[0])
    if len(shape) != 4:
        raise GraphError(f"data of shape {shape}: expected images, (batch, channels, height, width)")
    n, c, h, w = shape
    return n, c, h, w


def _through(reader: Reader, node: OnnxNode, split_shape: Shape, perm: Shape, wanted: Shape) -> None:
    source = reader.tensor(node.inputs[0])
    parts = reader.emit("Reshape", [source], reader.fresh(f"{node.output}.split"), shape=split_shape)
    moved = reader.emit("Transpose", [parts], reader.fresh(f"{node.output}.moved"), perm=perm)
    reader.emit("Reshape", [moved], node.output, shape=wanted)


def _reshape(reader: Reader, node: OnnxNode, wanted: Shape) -> None:
    """In another shape: rows of features are a Flatten, any other a Reshape."""
    source = reader.tensor(node.inputs[0])
    shape = reader.values[source].shape
    if math.prod(shape) != math.prod(wanted):
        raise GraphError(f"{shape} as {wanted}: expected as many elements")
    if wanted == shape:
        reader.alias(node.output, source)
    elif len(shape) > 2 and wanted == (shape[0], math.prod(shape[1:])):
        reader.emit("Flatten", [source], node.output, axis=1)
    else:
        reader.emit("Reshape", [source], node.output, shape=wanted)
