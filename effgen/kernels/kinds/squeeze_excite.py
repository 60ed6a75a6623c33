"""The gate of squeeze-excite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.names import ALWAYS, BATCH, SIZE, Grammar, activation, number
from effgen.kernels.reference import named
from effgen.kernels.workload import Activation, Argument, Arrays, Float64, Image, Workload


@dataclass(frozen=True)
class SqueezeExcite(Workload):
    """Row sums of an image -> its channels' gate (paper of squeeze-excite, arXiv 1709.01507, section 3).

    Arguments: sums (batch, height, channels); two dense layers' packed weights and biases, channels -> squeezed ->
    channels; output the gate (batch, 1, 1, channels) = gate_activation(fc2(activation(fc1(mean)))).
    """

    batch: int
    height: int
    width: int
    channels: int
    squeezed: int
    activation: Activation
    gate_activation: Activation
    dtype: str = "float32"

    @property
    def data_shape(self) -> tuple[int, int, int]:
        return (self.batch, self.height, self.channels)

    @property
    def out_shape(self) -> Image:
        return (self.batch, 1, 1, self.channels)

    @property
    def inputs(self) -> tuple[Argument, ...]:
        # Random ones make a mean of about 1: it is their sum over the rows divided by height * width.
        sums = Argument("sums", self.data_shape, deviation=self.width * self.height**0.5)
        return (sums, *self.squeeze.parameters("squeeze_"), *self.excite.parameters("excite_"))

    @property
    def outputs(self) -> tuple[Argument, ...]:
        return (Argument("out", self.out_shape),)

    @property
    def squeeze(self) -> Conv2d:
        """The first dense layer."""
        return Conv2d(self.batch, 1, 1, self.channels, self.squeezed, activation=self.activation, dtype=self.dtype)

    @property
    def excite(self) -> Conv2d:
        """The second dense layer."""
        last = self.gate_activation
        return Conv2d(self.batch, 1, 1, self.squeezed, self.channels, activation=last, dtype=self.dtype)

    @property
    def macs(self) -> int:
        """Multiply-adds of the two dense layers."""
        return self.squeeze.macs + self.excite.macs

    def reference(self, inputs: Arrays) -> list[Float64]:
        mean = inputs["sums"].sum(1, dtype=np.float64) / (self.height * self.width)
        image = mean.reshape(self.batch, 1, 1, self.channels)
        (squeezed,) = self.squeeze.reference(named(inputs, "squeeze_", image))
        return self.excite.reference(named(inputs, "excite_", squeezed))

    @property
    def family(self) -> str:
        return "squeeze_excite"

    @property
    def name(self) -> str:
        return _NAME.write(vars(self))

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        said = _NAME.read(name)
        return None if said is None else cls(**said)


_NAME = Grammar(
    "se",
    number("c", "channels"),
    number("s", "squeezed"),
    SIZE,
    BATCH,
    activation(usual=ALWAYS),
    activation("gate_activation", usual=ALWAYS),
)
