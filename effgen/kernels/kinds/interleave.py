"""Images whose channels are dealt out in turn, and cut again: what stands between two of ShuffleNet's units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from effgen.kernels.names import BATCH, SIZE, Grammar, cuts, number
from effgen.kernels.workload import Argument, Arrays, Float64, Image, Workload


@dataclass(frozen=True)
class Interleave(Workload):
    """`count` images of `channels` channels each become one, a channel of each in turn: number i of image k is channel
    i * count + k. It is cut into images of `cuts` channels, multiples of `count`: the outputs. NHWC."""

    batch: int
    height: int
    width: int
    channels: int
    count: int
    cuts: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        assert self.count > 1 and sum(self.cuts) == self.count * self.channels, self
        assert all(cut % self.count == 0 for cut in self.cuts), self

    @property
    def data_shape(self) -> Image:
        return (self.batch, self.height, self.width, self.channels)

    @property
    def out_shape(self) -> Image:
        return (self.batch, self.height, self.width, self.cuts[0])

    @property
    def inputs(self) -> tuple[Argument, ...]:
        return tuple(Argument(f"data{index}", self.data_shape, self.dtype) for index in range(self.count))

    @property
    def outputs(self) -> tuple[Argument, ...]:
        shapes = ((*self.data_shape[:3], cut) for cut in self.cuts)
        return tuple(Argument(f"out{index}", shape, self.dtype) for index, shape in enumerate(shapes))

    def reference(self, inputs: Arrays) -> list[Float64]:
        images = [inputs[f"data{index}"].astype(np.float64) for index in range(self.count)]
        whole = np.stack(images, axis=-1).reshape(*self.data_shape[:3], -1)
        return np.split(whole, np.cumsum(self.cuts)[:-1], axis=-1)

    @property
    def family(self) -> str:
        return "interleave"

    @property
    def name(self) -> str:
        return _NAME.write(vars(self))

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        said = _NAME.read(name)
        return None if said is None else cls(**said)


_NAME = Grammar("interleave", number("n", "count"), number("c", "channels"), cuts("cuts"), SIZE, BATCH)
