"""Pooling by windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from effgen.kernels.names import BATCH, SIZE, Grammar, number, pair, sides, together
from effgen.kernels.reference import padded, shifted
from effgen.kernels.workload import Argument, Arrays, Float64, Image, Workload

PoolMode = Literal["max", "average"]


@dataclass(frozen=True)
class Pool2d(Workload):
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

    def __post_init__(self) -> None:
        assert self.out_shape[1] > 0 and self.out_shape[2] > 0, self
        assert self.mode == "average" or not any(self.counted), self
        assert self.mode == "max" or self.dilation == (1, 1), self
        assert self.mode == "max" or self.counts.min() > 0, self

    @property
    def data_shape(self) -> Image:
        return (self.batch, self.height, self.width, self.channels)

    @property
    def out_shape(self) -> Image:
        top, left, bottom, right = self.padding
        high, wide = ((self.kernel[i] - 1) * self.dilation[i] + 1 for i in range(2))
        rows = (self.height + top + bottom - high) // self.stride[0] + 1
        columns = (self.width + left + right - wide) // self.stride[1] + 1
        return (self.batch, rows, columns, self.channels)

    @property
    def inputs(self) -> tuple[Argument, ...]:
        return (Argument("data", self.data_shape, self.dtype),)

    @property
    def outputs(self) -> tuple[Argument, ...]:
        return (Argument("out", self.out_shape, self.dtype),)

    @property
    def counts(self) -> Float64:
        """How many pixels of each window count in a mean: (rows, columns) of the output."""
        sizes = (self.height, self.width)
        along = []
        for axis in (0, 1):
            start = np.arange(self.out_shape[1 + axis]) * self.stride[axis] - self.padding[axis]
            end = np.minimum(start + self.kernel[axis], sizes[axis] + self.counted[axis + 2])
            along.append((end - np.maximum(start, -self.counted[axis])).astype(np.float64))
        return np.outer(*along)

    def reference(self, inputs: Arrays) -> list[Float64]:
        lowest, join = (-np.inf, np.maximum) if self.mode == "max" else (0.0, np.add)
        image = padded(inputs["data"].astype(np.float64), self.padding, lowest)
        out = np.full(self.out_shape, lowest)
        for _, data in shifted(image, self.kernel, self.stride, self.dilation):
            out = join(out, data)
        return [out if self.mode == "max" else out / self.counts[None, :, :, None]]

    @property
    def family(self) -> str:
        return "window_pool"

    @property
    def name(self) -> str:
        return _NAMES[self.mode].write(vars(self))

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        read = ((mode, grammar.read(name)) for mode, grammar in _NAMES.items())
        return next((cls(mode, **said) for mode, said in read if said is not None), None)


_NONE = (0, 0, 0, 0)
_PARTS = (
    together(pair("k", "kernel"), pair("s", "stride")),
    number("c", "channels"),
    SIZE,
    pair("d", "dilation", (1, 1)),
    sides("p", "padding", _NONE),
    sides("n", "counted", _NONE),
    BATCH,
)
_NAMES: dict[PoolMode, Grammar] = {"max": Grammar("maxpool", *_PARTS), "average": Grammar("meanpool", *_PARTS)}
