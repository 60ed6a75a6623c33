"""An image times a number a channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from effgen.kernels.names import BATCH, CODES_MADE, SIZE, Grammar, number
from effgen.kernels.reference import codes, numbers
from effgen.kernels.workload import CODE_TYPES, Argument, Arrays, Float64, Image, Workload


@dataclass(frozen=True)
class ChannelScale(Workload):
    """`data[n, h, w, c] * gate[n, 0, 0, c]`: how squeeze-excite applies its gate. NHWC.

    The data may be codes (`dtype` uint8 or int8), of which `data_grid` has scale and zero point: the number of a code
    is (code - zero point) * scale. With `code_type` the output is codes as that of `Conv2d` is.
    """

    batch: int
    height: int
    width: int
    channels: int
    code_type: str | None = None
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
        grids = [("data_grid", self.reads_codes), ("grid", self.code_type is not None)]
        further = (Argument(name, (2,)) for name, there in grids if there)
        return (Argument("data", self.data_shape, self.dtype), gate, *further)

    @property
    def reads_codes(self) -> bool:
        return self.dtype in CODE_TYPES

    @property
    def outputs(self) -> tuple[Argument, ...]:
        return (Argument("out", self.out_shape, self.code_type or ("float32" if self.reads_codes else self.dtype)),)

    def reference(self, inputs: Arrays) -> list[Float64]:
        data = inputs["data"].astype(np.float64)
        data = numbers(data, *inputs["data_grid"]) if self.reads_codes else data
        out = data * inputs["gate"]
        return [out if self.code_type is None else codes(out, self.code_type, *inputs["grid"])]

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


_NAME = Grammar("scale", number("c", "channels"), SIZE, BATCH, CODES_MADE)
