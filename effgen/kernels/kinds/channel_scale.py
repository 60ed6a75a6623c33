"""An image times a number a channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from effgen.kernels.names import BATCH, SIZE, Grammar, number
from effgen.kernels.workload import Argument, Arrays, Float64, Image, Workload


@dataclass(frozen=True)
class ChannelScale(Workload):
    """`data[n, h, w, c] * gate[n, 0, 0, c]`: how squeeze-excite applies its gate. NHWC."""

    batch: int
    height: int
    width: int
    channels: int
    dtype: str = "float32"

    @property
    def data_shape(self) -> Image:
        return (self.batch, self.height, self.width, self.channels)

    @property
    def out_shape(self) -> Image:
        return self.data_shape

    @property
    def inputs(self) -> tuple[Argument, ...]:
        gate = Argument("gate", (self.batch, 1, 1, self.channels), deviation=None)
        return (Argument("data", self.data_shape, self.dtype), gate)

    @property
    def outputs(self) -> tuple[Argument, ...]:
        return (Argument("out", self.out_shape, self.dtype),)

    def reference(self, inputs: Arrays) -> list[Float64]:
        return [inputs["data"].astype(np.float64) * inputs["gate"]]

    @property
    def family(self) -> str:
        return "scale"

    @property
    def name(self) -> str:
        return _NAME.write(vars(self))

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        said = _NAME.read(name)
        return None if said is None else cls(**said)


_NAME = Grammar("scale", number("c", "channels"), SIZE, BATCH)
