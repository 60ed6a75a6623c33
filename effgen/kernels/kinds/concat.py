"""Images joined along their channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from effgen.kernels.names import BATCH, CHANNELS_OF_PARTS, SIZE, Grammar, activation, flag, number
from effgen.kernels.reference import activated
from effgen.kernels.workload import Activation, Argument, Arrays, Float64, Image, Shape, Workload


@dataclass(frozen=True)
class Concat(Workload):
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

    @property
    def channels(self) -> int:
        return sum(self.parts)

    @property
    def data_shapes(self) -> tuple[Shape, ...]:
        """Of the images, in order."""
        return tuple((self.batch, self.height, self.width, channels) for channels in self.parts)

    @property
    def data_shape(self) -> Shape:
        return self.data_shapes[0]

    @property
    def out_shape(self) -> Image:
        return (self.batch, self.height, self.width, self.channels)

    @property
    def inputs(self) -> tuple[Argument, ...]:
        images = (Argument(f"data{index}", shape, self.dtype) for index, shape in enumerate(self.data_shapes))
        norm = (Argument(name, (self.channels,)) for name in ("factor", "summand"))
        return (*images, *norm) if self.affine else tuple(images)

    @property
    def outputs(self) -> tuple[Argument, ...]:
        return (Argument("out", self.out_shape, self.dtype),)

    def reference(self, inputs: Arrays) -> list[Float64]:
        images = [inputs[f"data{index}"].astype(np.float64) for index in range(len(self.parts))]
        out = np.concatenate(images, axis=3)
        if self.affine:
            out = out * inputs["factor"] + inputs["summand"]
        return [activated(out, self.activation)]

    @property
    def family(self) -> str:
        return "concat"

    @property
    def name(self) -> str:
        """Channels of the parts, `24x3` for three parts of 24."""
        alone = self.affine and len(self.parts) == 1
        return (_AFFINE if alone else _CONCAT).write(vars(self) | {"channels": self.channels})

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        said = _AFFINE.read(name)
        if said is not None:
            return cls(parts=(said.pop("channels"),), affine=True, **said)
        said = _CONCAT.read(name)
        return None if said is None else cls(**said)


_AFFINE = Grammar("affine", number("c", "channels"), SIZE, BATCH, activation())
_CONCAT = Grammar("concat", CHANNELS_OF_PARTS, SIZE, BATCH, flag("affine", "affine"), activation())
