"""Which pixels a resized one is made of, and how much of each: ONNX's Resize along one axis at a time.

Coordinates are computed in float32, as onnxruntime does: where one falls between two pixels decides which is nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from effgen.errors import GraphError, candidates
from effgen.graph.ops import Attributes, integer, ints, number, text

_Coordinates: TypeAlias = NDArray[np.float32]
#: Weight of a pixel by its distance.
_Kernel: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Taps:
    """For each pixel of the result the pixels it is made of, and their weights: both (size, taps)."""

    indices: NDArray[np.int64]
    weights: NDArray[np.float32]


def resize_taps(attributes: Attributes, axis: int, size: int) -> Taps:
    """The taps of a Resize along height (axis 0) or width (1) of an image with `size` pixels there."""
    line = _Line(attributes, axis, size)
    if text(attributes, "mode") == "nearest":
        nearest = NEAREST_MODES[text(attributes, "nearest_mode")](line.coordinates)
        return Taps(np.clip(nearest, 0, size - 1).astype(np.int64)[:, None], np.ones((line.wanted, 1), np.float32))
    linear = text(attributes, "mode") == "linear"
    kernel = _linear if linear else _cubic(number(attributes, "cubic_coeff_a"))
    shrinks = bool(integer(attributes, "antialias", 0)) and line.scale < 1
    exclude = bool(integer(attributes, "exclude_outside", 0))
    return _around(line, kernel, 1 if linear else 2, float(line.scale) if shrinks else 1.0, exclude)


class _Line:
    """Where the pixels of the result lie among the `size` of the image."""

    def __init__(self, attributes: Attributes, axis: int, size: int) -> None:
        self.size, self.wanted = size, ints(attributes, "sizes")[axis]
        self.scale = np.float32(attributes["scales"][axis])  # type: ignore[index]
        mode = text(attributes, "coordinate_transformation_mode")
        whole = np.arange(self.wanted, dtype=np.float32)
        self.coordinates: _Coordinates = COORDINATES[mode](whole, self.scale, size, self.wanted).astype(np.float32)


def _align(x: _Coordinates, scale: np.float32, size: int, wanted: int) -> _Coordinates:
    return x * np.float32(size - 1) / np.float32(wanted - 1) if wanted > 1 else np.zeros_like(x)


def _half(x: _Coordinates, scale: np.float32, size: int, wanted: int) -> _Coordinates:
    return (x + np.float32(0.5)) / scale - np.float32(0.5)


def _symmetric(x: _Coordinates, scale: np.float32, size: int, wanted: int) -> _Coordinates:
    """Half pixels around the middle, where the size is not the one that the scale asked for."""
    adjusted = np.float32(wanted) / (scale * np.float32(size))
    centre = np.float32(size / 2)
    return centre * (1 - adjusted) + _half(x, scale, size, wanted)


#: `coordinate_transformation_mode` -> where a pixel of the result lies, of (its number, scale, size, size wanted).
COORDINATES: Mapping[str, Callable[[_Coordinates, np.float32, int, int], _Coordinates]] = {
    "align_corners": _align,
    "asymmetric": lambda x, scale, size, wanted: x / scale,
    "half_pixel": _half,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": lambda x, scale, size, wanted: (
        _half(x, scale, size, wanted) if wanted > 1 else np.zeros_like(x)
    ),
    "tf_half_pixel_for_nn": lambda x, scale, size, wanted: (x + np.float32(0.5)) / scale,
}

#: `nearest_mode` -> the pixel's number.
NEAREST_MODES: Mapping[str, Callable[[_Coordinates], NDArray[np.float32]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
    "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}

MODES = ("nearest", "linear", "cubic")


def check_modes(mode: str, coordinates: str, nearest: str) -> None:
    """Raise GraphError for a mode that is none of ONNX's, or that reads more than one axis at a time."""
    for key, found, known in (
        ("mode", mode, MODES),
        ("coordinate_transformation_mode", coordinates, tuple(COORDINATES)),
        ("nearest_mode", nearest, tuple(NEAREST_MODES)),
    ):
        if found not in known:
            raise GraphError(f"{key} = {found}: {candidates(found, known)}")


def _linear(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.maximum(1 - np.abs(distance), 0)
    return weights


def _cubic(a: float) -> _Kernel:
    """Keys' kernel, 1981, which ONNX names as the source."""

    def kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        d = np.abs(distance)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return kernel


def _around(line: _Line, kernel: _Kernel, reach: int, scale: float, exclude: bool) -> Taps:
    """Of the pixels around a coordinate; beyond the image its border goes on, or (`exclude_outside`) nothing is there.

    `scale` below 1 makes the kernel as wide as the pixels that shrink into one (`antialias`).
    """
    x = line.coordinates.astype(np.float64)
    first = math.floor(-reach / scale) + 1
    places = np.floor(x)[:, None] + np.arange(first, 2 - first)
    weights = kernel((places - x[:, None]) * scale)
    if exclude:
        weights = np.where((places < 0) | (places >= line.size), 0.0, weights)
    weights /= weights.sum(1, keepdims=True)
    return Taps(np.clip(places, 0, line.size - 1).astype(np.int64), weights.astype(np.float32))
