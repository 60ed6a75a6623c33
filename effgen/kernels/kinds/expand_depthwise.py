"""A depthwise convolution joined with the one before it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Self

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.names import AHEAD, Grammar, activation, number
from effgen.kernels.reference import named
from effgen.kernels.workload import (
    CODE_TYPES,
    Activation,
    Argument,
    Arrays,
    DataLayout,
    Float64,
    Image,
    Shape,
    Workload,
)


@dataclass(frozen=True)
class ExpandDepthwise(Workload):
    """A depthwise convolution whose input is the output of another one, which is never in memory as a whole.

    The other is pointwise, of codes or not, or the stem: a window over an image in NCHW. `ahead` as in Conv2d (not
    with the stem).
    """

    expand: Conv2d
    depthwise: Conv2d
    ahead: tuple[Shape, ...] = ()

    def __post_init__(self) -> None:
        assert self.expand.looks_ahead or (self.expand.is_stem and not self.ahead), self
        assert not self.expand.gated and not self.expand.residual and not self.expand.ahead, self
        assert self.expand.dilation == (1, 1), self
        assert self.depthwise.family == "depthwise" and not self.depthwise.residual, self
        assert self.expand.out_shape == self.depthwise.data_shape, self
        assert self.expand.code_type is None and not self.depthwise.multiplies_codes, self
        assert self.depthwise.dtype == ("float32" if self.expand.multiplies_codes else self.expand.dtype), self

    @property
    def dtype(self) -> str:
        return self.depthwise.dtype

    def with_dtype(self, dtype: str) -> Self:
        return replace(self, expand=self.expand.with_dtype(dtype), depthwise=self.depthwise.with_dtype(dtype))

    @property
    def data_layout(self) -> DataLayout:
        return self.expand.data_layout

    @property
    def data_shape(self) -> Image:
        return self.expand.data_shape

    @property
    def out_shape(self) -> Image:
        return self.depthwise.out_shape

    @property
    def inputs(self) -> tuple[Argument, ...]:
        """The expanded image is not among them."""
        image = self.expand.input("data")
        grid = tuple(argument for argument in self.depthwise.inputs if argument.name == "grid")
        return (image, *self.expand.parameters("expand_"), *self.depthwise.parameters("depthwise_"), *grid)

    @property
    def outputs(self) -> tuple[Argument, ...]:
        return self.depthwise.outputs

    @property
    def convolutions(self) -> tuple[Conv2d, ...]:
        """Both, in turn."""
        return (self.expand, self.depthwise)

    @property
    def macs(self) -> int:
        """Multiply-adds of both convolutions, without rows that are computed twice."""
        return self.expand.macs + self.depthwise.macs

    def activated(self, *activations: Activation) -> int:
        return self.expand.activated(*activations) + self.depthwise.activated(*activations)

    def reference(self, inputs: Arrays) -> list[Float64]:
        (expanded,) = self.expand.reference(named(inputs, "expand_", inputs["data"]))
        return self.depthwise.reference(named(inputs, "depthwise_", expanded))

    @property
    def family(self) -> str:
        return "depthwise"

    @property
    def group(self) -> str:
        """Expansions and stems are groups of their own."""
        return "stem_depthwise" if self.expand.is_stem else "expand_depthwise"

    @property
    def looks_ahead(self) -> bool:
        return not self.expand.is_stem

    def with_ahead(self, shapes: tuple[Shape, ...]) -> Self:
        return replace(self, ahead=shapes)

    @property
    def name(self) -> str:
        """What is expanded, or the stem's name; then the depthwise kernel's own."""
        first = self.expand.name if self.expand.is_stem else _EXPANSION.write(vars(self.expand))
        _, rest = self.depthwise.name.split("_", 1)
        return "_".join(filter(None, [first, rest, AHEAD.write(vars(self))]))

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        first, rest, ahead = match.groups(default="")
        said = _EXPANSION.read(first)
        of_codes = said is not None and said["dtype"] in CODE_TYPES
        depthwise = Conv2d.from_name(f"{'f32' if of_codes else first.split('_')[0]}_{rest}")
        expand = Conv2d.from_name(first) if depthwise else None
        if depthwise and said:
            expand = Conv2d(
                depthwise.batch, depthwise.height, depthwise.width, out_channels=depthwise.in_channels, **said
            )
        return cls(expand, depthwise, **AHEAD.read(ahead)) if expand and depthwise else None


_EXPANSION = Grammar("expand", number("k", "in_channels"), activation())
_NAME = re.compile(rf"(.+)_(dwconv2d_.+?)(?:_({AHEAD.pattern}))?", re.ASCII)
