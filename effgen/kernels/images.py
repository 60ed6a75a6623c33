"""Workloads that move or compare the values of images and multiply no weights: pooling by windows, channels joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from effgen.kernels.convolution import SHORT_DTYPE, Activation, Family, Shape

PoolMode = Literal["max", "average"]


@dataclass(frozen=True)
class Pool2d:
    """Maximum or mean over windows of an image: NHWC -> NHWC.

    `padding` (top, left, bottom, right) is never a maximum; in a mean it counts as zeros up to `counted` (top, left,
    bottom, right), and beyond that not at all.
    """

    mode: PoolMode
    batch: int
    height: int
    width: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    counted: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    dtype: str = "float32"

    macs = 0

    def __post_init__(self) -> None:
        assert self.out_shape[1] > 0 and self.out_shape[2] > 0, self
        assert self.mode == "average" or not any(self.counted), self
        assert self.mode == "max" or self.dilation == (1, 1), self

    @property
    def data_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.height, self.width, self.channels)

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        top, left, bottom, right = self.padding
        high, wide = ((self.kernel[i] - 1) * self.dilation[i] + 1 for i in range(2))
        rows = (self.height + top + bottom - high) // self.stride[0] + 1
        columns = (self.width + left + right - wide) // self.stride[1] + 1
        return (self.batch, rows, columns, self.channels)

    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all outputs."""
        return (self.out_shape,)

    @property
    def bytes(self) -> int:
        """Bytes that have to be read and written once."""
        return 4 * (prod(self.data_shape) + prod(self.out_shape))

    @property
    def counts(self) -> NDArray[np.float64]:
        """How many pixels of each window count in a mean: (rows, columns) of the output."""
        sizes = (self.height, self.width)
        along = []
        for axis in (0, 1):
            start = np.arange(self.out_shape[1 + axis]) * self.stride[axis] - self.padding[axis]
            end = np.minimum(start + self.kernel[axis], sizes[axis] + self.counted[axis + 2])
            along.append((end - np.maximum(start, -self.counted[axis])).astype(np.float64))
        return np.outer(*along)

    @property
    def family(self) -> Family:
        return "window_pool"

    @property
    def name(self) -> str:
        """The kernel's one printed name."""
        parts = [f"{SHORT_DTYPE[self.dtype]}_{'maxpool' if self.mode == 'max' else 'meanpool'}"]
        parts.append(f"k{_pair(self.kernel)}s{_pair(self.stride)}")
        parts.append(f"c{self.channels}")
        parts.append(f"h{self.height}" if self.height == self.width else f"h{self.height}w{self.width}")
        parts += [f"d{_pair(self.dilation)}"] if self.dilation != (1, 1) else []
        parts += ["p" + "x".join(map(str, self.padding))] if any(self.padding) else []
        parts += ["n" + "x".join(map(str, self.counted))] if any(self.counted) else []
        parts += [f"b{self.batch}"] if self.batch != 1 else []
        return "_".join(parts)


@dataclass(frozen=True)
class Concat:
    """Images of one size, one after the other along the channels, NHWC; `parts` are their channels.

    Arguments: the images; with `affine` a factor and a summand a channel; then
    out = activation(image [* factor + summand]).
    """

    batch: int
    height: int
    width: int
    parts: tuple[int, ...]
    affine: bool = False
    activation: Activation = "none"
    dtype: str = "float32"

    macs = 0

    @property
    def channels(self) -> int:
        return sum(self.parts)

    @property
    def data_shapes(self) -> tuple[Shape, ...]:
        """Of the images, in order."""
        return tuple((self.batch, self.height, self.width, channels) for channels in self.parts)

    @property
    def data_shape(self) -> Shape:
        """Of the first image."""
        return self.data_shapes[0]

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.height, self.width, self.channels)

    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all outputs."""
        return (self.out_shape,)

    @property
    def bytes(self) -> int:
        """Bytes that have to be read and written once."""
        return 4 * (2 * prod(self.out_shape) + 2 * self.channels * self.affine)

    @property
    def family(self) -> Family:
        return "concat"

    @property
    def name(self) -> str:
        """The kernel's one printed name: channels of the parts, `24x3` for three parts of 24."""
        parts = [f"{SHORT_DTYPE[self.dtype]}_{'concat' if len(self.parts) > 1 else 'affine'}"]
        parts += [f"c{text}" for text in _runs(self.parts)]
        parts.append(f"h{self.height}" if self.height == self.width else f"h{self.height}w{self.width}")
        parts += [f"b{self.batch}"] if self.batch != 1 else []
        parts += ["affine"] if self.affine and len(self.parts) > 1 else []
        parts += [self.activation] if self.activation != "none" else []
        return "_".join(parts)


def _runs(numbers: tuple[int, ...]) -> Iterator[str]:
    for number, same in groupby(numbers):
        count = len(list(same))
        yield str(number) if count == 1 else f"{number}x{count}"


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
