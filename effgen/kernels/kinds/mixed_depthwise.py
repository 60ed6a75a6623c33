"""Depthwise convolutions of several kernel sizes, each of its share of an image's channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.names import BATCH, DEPTHWISE_PARTS, SIZE, Grammar, activation, flag, pair
from effgen.kernels.reference import named
from effgen.kernels.workload import Activation, Argument, Arrays, Float64, Image, Workload


@dataclass(frozen=True)
class MixedDepthwise(Workload):
    """`parts` side by side along the channels, NHWC: each reads its own channels of the image and writes its own.

    Arguments: the image, weight and bias of each part, the output, and, with row sums, those of all parts.
    """

    parts: tuple[Conv2d, ...]

    def __post_init__(self) -> None:
        first = self.parts[0]
        assert len(self.parts) > 1 and all(part.family == "depthwise" for part in self.parts), self
        assert not any(part.residual for part in self.parts), self
        assert all(part.out_shape[:3] == first.out_shape[:3] for part in self.parts), self
        assert all(_common(part) == _common(first) for part in self.parts), self

    @property
    def dtype(self) -> str:
        return self.parts[0].dtype

    @property
    def channels(self) -> int:
        return sum(part.in_channels for part in self.parts)

    @property
    def row_sums(self) -> bool:
        return self.parts[0].row_sums

    @property
    def firsts(self) -> tuple[int, ...]:
        """The first channel of each part."""
        return tuple(sum(part.in_channels for part in self.parts[:index]) for index in range(len(self.parts)))

    @property
    def data_shape(self) -> Image:
        return (*self.parts[0].data_shape[:3], self.channels)

    @property
    def out_shape(self) -> Image:
        return (*self.parts[0].out_shape[:3], self.channels)

    @cached_property
    def inputs(self) -> tuple[Argument, ...]:
        own = (part.parameters(f"part{index}_") for index, part in enumerate(self.parts))
        return (Argument("data", self.data_shape, self.dtype), *(parameter for two in own for parameter in two))

    @property
    def outputs(self) -> tuple[Argument, ...]:
        sums = Argument("sums_out", (*self.out_shape[:2], self.channels))
        return (Argument("out", self.out_shape, self.dtype), *([sums] * self.row_sums))

    @property
    def macs(self) -> int:
        return sum(part.macs for part in self.parts)

    def activated(self, *activations: Activation) -> int:
        return sum(part.activated(*activations) for part in self.parts)

    def with_dtype(self, dtype: str) -> Self:
        return replace(self, parts=tuple(part.with_dtype(dtype) for part in self.parts))

    def with_row_sums(self) -> Self:
        """The workload that sums its rows besides."""
        return replace(self, parts=tuple(replace(part, row_sums=True) for part in self.parts))

    def reference(self, inputs: Arrays) -> list[Float64]:
        each = []
        for index, (part, first) in enumerate(zip(self.parts, self.firsts, strict=True)):
            data = inputs["data"][..., first : first + part.in_channels]
            each.append(part.reference(named(inputs, f"part{index}_", data)))
        return [np.concatenate(outputs, axis=-1) for outputs in zip(*each, strict=True)]

    @property
    def family(self) -> str:
        return "depthwise"

    @property
    def group(self) -> str:
        return "mixed_depthwise"

    @property
    def name(self) -> str:
        """Kernel and channels of each part: `k3c48_k5c48`."""
        return _NAME.write(vars(self.parts[0]) | {"parts": self.parts})

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        said = _NAME.read(name)
        if said is None:
            return None
        parts = said.pop("parts")
        convs = (
            Conv2d(in_channels=channels, out_channels=channels, groups=channels, kernel=kernel, padding=padding, **said)
            for kernel, channels, padding in parts
        )
        return cls(tuple(convs))


def _common(part: Conv2d) -> tuple[object, ...]:
    """What all parts have in common."""
    return (part.data_shape[:3], part.stride, part.activation, part.row_sums, part.dtype)


_NAME = Grammar("mixeddw", DEPTHWISE_PARTS, pair("s", "stride"), SIZE, BATCH, activation(), flag("row_sums", "sums"))
