"""Padding and resizing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from effgen.errors import GraphError
from effgen.graph.onnx.arithmetic import shortest
from effgen.graph.onnx.reader import Converter, OnnxNode, Reader
from effgen.graph.onnx.shapes import cut
from effgen.graph.ops import AttributeValue, Shape
from effgen.graph.resize import check_modes


def pad(reader: Reader, node: OnnxNode) -> None:
    """Any mode, any axes; what is less than 0 is cut off. A convolution or pooling takes zeros in, by a later pass."""
    source, shape = reader.tensor(node.inputs[0]), reader.shape(node.inputs[0])
    pads = reader.integers(node, "pads", 1)
    mode, value = node.attributes.get("mode", "constant"), node.attributes.get("value", 0.0)
    if reader.has_input(node, 2):
        value = reader.number(node, 2, "its value")
    if reader.has_input(node, 3):
        pads = _on_all_axes(pads, reader.integers(node, "axes", 3), len(shape))
    if pads is None or len(pads) != 2 * len(shape):
        raise GraphError(f"pads {pads}: expected a constant number for each side of {shape}")
    source = _cropped(reader, source, pads, node.output)
    pads = tuple(max(n, 0) for n in pads)
    if any(pads) and mode == "wrap":
        _wrapped(reader, source, pads, node.output)
    elif any(pads):
        reader.emit("Pad", [source], node.output, pads=pads, mode=mode, value=shortest(value))
    else:
        reader.alias(node.output, source)


def _cropped(reader: Reader, source: str, pads: Shape, output: str) -> str:
    """The data without what pads below 0 take away."""
    if min(pads) >= 0:
        return source
    shape = reader.values[source].shape
    cuts = {}
    for axis, size in enumerate(shape):
        low, high = max(-pads[axis], 0), size - max(-pads[axis + len(shape)], 0)
        if low >= high:
            raise GraphError(f"pads {pads} of {shape}: nothing is left")
        cuts[axis] = (low, high, 1)
    name = reader.fresh(f"{output}.cropped")
    cut(reader, source, cuts, name)
    return reader.tensor(name)


def _wrapped(reader: Reader, source: str, pads: Shape, output: str) -> None:
    """An axis' end before it and its beginning behind it."""
    for axis, size in enumerate(reader.values[source].shape):
        before, after = pads[axis], pads[axis + len(pads) // 2]
        if max(before, after) > size:
            raise GraphError(f"pads {pads}: expected no more than the {size} elements of axis {axis}")
        parts = []
        for number, (low, high) in enumerate(((size - before, size), (0, size), (0, after))):
            if low < high:
                name = reader.fresh(f"{output}.{axis}.{number}")
                cut(reader, source, {axis: (low, high, 1)}, name)
                parts.append(reader.tensor(name))
        if len(parts) > 1:
            source = reader.emit("Concat", parts, reader.fresh(f"{output}.{axis}"), axis=axis)
    reader.alias(output, source)


def resize(reader: Reader, node: OnnxNode) -> None:
    """Height and width of images, or whichever two neighbouring axes of four are resized."""
    source, shape = reader.tensor(node.inputs[0]), reader.shape(node.inputs[0])
    modes = _modes(reader, node)
    scales, sizes = _scales_and_sizes(reader, node, shape)
    changed = [axis for axis, n in enumerate(shape) if sizes[axis] != n or scales[axis] != 1]
    if not changed:
        reader.alias(node.output, source)
        return
    image, back = _as_image(reader, source, changed, node.output)
    pair = (1, sizes[2]) if back.rows else sizes[back.first : back.first + 2]
    by = [np.float32(1), scales[2]] if back.rows else scales[back.first : back.first + 2]
    attributes: dict[str, AttributeValue] = {**modes, "sizes": pair, "scales": tuple(float(n) for n in by)}
    resized = reader.emit(
        "Resize",
        [image],
        node.output if back.perm is None and not back.rows else reader.fresh(f"{node.output}.image"),
        **attributes,
    )
    if back.perm is not None:
        reader.emit("Transpose", [resized], node.output, perm=back.perm)
    elif back.rows:
        reader.emit("Reshape", [resized], node.output, shape=sizes)


class _Back:
    """How an image became one: its rows got a height, or its channels were moved; `first` of the axes resized."""

    def __init__(self, first: int, perm: Shape | None = None, rows: bool = False) -> None:
        self.first, self.perm, self.rows = first, perm, rows


def _as_image(reader: Reader, source: str, changed: list[int], output: str) -> tuple[str, _Back]:
    shape = reader.values[source].shape
    if len(shape) == 4 and set(changed) <= {2, 3}:
        return source, _Back(2)
    if len(shape) == 3 and changed == [2]:
        return reader.reshaped(source, (*shape[:2], 1, shape[2]), f"{output}.rows"), _Back(2, rows=True)
    if len(shape) == 4 and set(changed) <= {1, 2}:
        moved = reader.emit("Transpose", [source], reader.fresh(f"{output}.moved"), perm=(0, 3, 1, 2))
        return moved, _Back(1, perm=(0, 2, 3, 1))
    raise GraphError(f"axes {changed} of {shape}: expected height and width of images")


def _modes(reader: Reader, node: OnnxNode) -> dict[str, AttributeValue]:
    """Before opset 11 nothing is said of coordinates: they were divided by the scale."""
    given = node.attributes
    mode, old = given.get("mode", "nearest"), node.op_type == "Upsample" or reader.opset < 11
    mode = {"bilinear": "linear"}.get(mode, mode)
    coordinates = "asymmetric" if old else given.get("coordinate_transformation_mode", "half_pixel")
    nearest = "floor" if old else given.get("nearest_mode", "round_prefer_floor")
    check_modes(mode, coordinates, nearest)
    found: dict[str, AttributeValue] = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": nearest,
    }
    if mode == "cubic":
        found["cubic_coeff_a"] = shortest(given.get("cubic_coeff_a", -0.75))
    for key in ("exclude_outside", "antialias"):
        if given.get(key, 0) and mode != "nearest":
            found[key] = 1
    return found


def _scales_and_sizes(reader: Reader, node: OnnxNode, shape: Shape) -> tuple[list[np.float32], Shape]:
    """Of every axis: what its coordinates are divided by, and its size afterwards."""
    axes = node.attributes.get("axes", tuple(range(len(shape))))
    axes = [reader.axis(axis, len(shape)) for axis in axes]
    scales, sizes = [np.float32(1)] * len(shape), list(shape)
    given = _given(reader, node)
    if given is None:
        wanted = _kept_ratio(node, [int(n) for n in reader.integers(node, "sizes", 3) or ()], axes, shape)
        for axis, size in zip(axes, wanted, strict=True):
            sizes[axis], scales[axis] = size, np.float32(size) / np.float32(shape[axis])
    else:
        for axis, scale in zip(axes, given, strict=True):
            sizes[axis], scales[axis] = int(np.floor(np.float32(shape[axis]) * scale)), scale
    corners = node.attributes.get("coordinate_transformation_mode") == "align_corners"
    if corners and any(abs(n * float(s) - m) > 1e-3 for n, s, m in zip(shape, scales, sizes, strict=True)):
        # onnx's evaluator puts the last corner at the size before it is rounded down, onnxruntime after it.
        raise GraphError(f"align_corners of {shape} by scales that give no whole sizes: expected sizes instead")
    if min(sizes) < 1:
        raise GraphError(f"{shape} to {tuple(sizes)}: expected sizes of 1 or more")
    return scales, tuple(sizes)


def _given(reader: Reader, node: OnnxNode) -> list[np.float32] | None:
    """The scales, where the node has any: an attribute (opset 7), an input; None where it has sizes."""
    if "scales" in node.attributes:
        return [np.float32(n) for n in node.attributes["scales"]]
    index = 1 if node.op_type == "Upsample" or reader.opset < 11 else 2
    if not reader.has_input(node, index):
        return None
    array = reader.constant(node, index, "its scales")
    return [np.float32(n) for n in array.ravel()] if array.size else None


def _kept_ratio(node: OnnxNode, sizes: list[int], axes: list[int], shape: Shape) -> list[int]:
    """Sizes as asked, or (opset 18) one scale for all axes: the least or the greatest of those asked for."""
    policy = node.attributes.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return sizes
    ratios = [np.float32(size) / np.float32(shape[axis]) for axis, size in zip(axes, sizes, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [int(np.floor(scale * np.float32(shape[axis]) + np.float32(0.5))) for axis in axes]


CONVERTERS: Mapping[str, Converter] = {"Pad": pad, "Resize": resize, "Upsample": resize}


def _on_all_axes(pads: tuple[int, ...] | None, axes: tuple[int, ...] | None, rank: int) -> tuple[int, ...] | None:
    """Pads of the axes named, as pads of all."""
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        return None
    whole = np.zeros((2, rank), int)
    for index, axis in enumerate(axes):
        whole[:, axis] = pads[index], pads[index + len(axes)]
    return tuple(int(n) for n in whole.ravel())
