"""The mean over an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from effgen.kernels.names import BATCH, SIZE, Grammar, number
from effgen.kernels.workload import Argument, Arrays, Float64, Image, Workload


@dataclass(frozen=True)
class GlobalAveragePool(Workload):
    """Mean over height and width: NHWC -> (batch, 1, 1, channels)."""

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
        return (self.batch, 1, 1, self.channels)

    @property
    def inputs(self) -> tuple[Argument, ...]:
        return (Argument("data", self.data_shape, self.dtype),)

    @property
    def outputs(self) -> tuple[Argument, ...]:
        return (Argument("out", self.out_shape, self.dtype),)

    def reference(self, inputs: Arrays) -> list[Float64]:
        return [inputs["data"].mean((1, 2), dtype=np.float64, keepdims=True)]

    @property
    def family(self) -> str:
        return "pool"

    @property
    def name(self) -> str:
        return _NAME.write(vars(self))

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        said = _NAME.read(name)
        return None if said is None else cls(**said)


_NAME = Grammar("avgpool", number("c", "channels"), SIZE, BATCH)
