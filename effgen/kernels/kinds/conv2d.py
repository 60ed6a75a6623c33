"""The kind that most kernels are of: one convolution, with what is done to its result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt, prod
from typing import Any, Literal, Self

import numpy as np

from effgen.kernels.names import (
    AHEAD,
    BATCH,
    CODES_ADDED,
    CODES_MADE,
    SIZE,
    UNEQUAL_SIZE,
    Fields,
    Grammar,
    activation,
    flag,
    number,
    pair,
    sides,
    together,
    usual_padding,
    word,
)
from effgen.kernels.packing import INPUT_SCALE, summands, taps
from effgen.kernels.reference import activated, codes, convolved, numbers, padded
from effgen.kernels.workload import (
    CODE_TYPES,
    Activation,
    Argument,
    Arrays,
    DataLayout,
    Float64,
    Image,
    Layout,
    Shape,
    Workload,
)

_Family = Literal["pointwise", "dense", "depthwise", "conv2d", "grouped"]

# Of random codes, which stay within their type's bounds.
_CODES_DEVIATION = 40.0


@dataclass(frozen=True)
class Conv2d(Workload):
    """`activation(conv(data, weight) + bias) [+ residual]`, output NHWC.

    With `activation_last` it is `activation(conv(data, weight) + bias + residual)`: where ResNet's blocks end.
    `dilation`: pixels from one tap to the next; convolutions so spread are of no other family than "conv2d" and
    "grouped".

    `data_layout` is the layout of the input alone: NCHW lets the stem read an image without a transposed
    copy. `padding` is (top, left, bottom, right). There is always a bias argument.

    Squeeze-excite's two ends may be part of it: with `row_sums` (depthwise) there is a second output
    (batch, out_height, out_channels), the sums over every output row, from which the mean is had without reading the
    image again; `gated` (pointwise) multiplies the input channels by a gate (batch, 1, 1, in_channels).

    Matrix products (pointwise, dense) may be of codes (`dtype` uint8 or int8, weights int8): their sums are whole
    numbers that begin at `start`, to be multiplied by `factor` for the result in float32, both of each output channel.
    With `code_type` the output is codes, whatever the input was: the numbers of `grid`, a scale's reciprocal and a zero
    point, make them: rounded (number * reciprocal) + zero point, half to even, at the bounds of the type. Sums of rows
    are those of what was not rounded yet. With `residual_type` the residual of a matrix product is codes, of which
    `residual_grid` has scale and zero point.

    `ahead` (pointwise): shapes of packed weights of kernels that run soon, one more input each. This kernel asks for
    them while it computes, so that they have arrived when they are read; the result does not depend on them.
    """

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    data_layout: DataLayout = "NHWC"
    activation: Activation = "none"
    residual: bool = False
    activation_last: bool = False
    gated: bool = False
    row_sums: bool = False
    ahead: tuple[Shape, ...] = ()
    code_type: str | None = None
    residual_type: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        assert self.in_channels % self.groups == 0 and self.out_channels % self.groups == 0, self
        assert self.out_height > 0 and self.out_width > 0, self
        assert not (self.gated or self.ahead) or self.looks_ahead, self
        assert not self.row_sums or self.family == "depthwise", self
        assert not self.multiplies_codes or (self.family in ("pointwise", "dense") and not self.gated), self
        assert self.code_type in (None, *CODE_TYPES), self
        assert self.residual_type is None or (self.residual and self.family in ("pointwise", "dense")), self
        # Without an activation there is but one order, and one name for it.
        assert not self.activation_last or (self.residual and self.activation != "none"), self

    # Sizes.

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of the image that one output reads from: the kernel, spread by the dilation."""
        return tuple((self.kernel[i] - 1) * self.dilation[i] + 1 for i in range(2))  # type: ignore[return-value]

    @property
    def out_height(self) -> int:
        return (self.height + self.padding[0] + self.padding[2] - self.window[0]) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        return (self.width + self.padding[1] + self.padding[3] - self.window[1]) // self.stride[1] + 1

    @property
    def data_shape(self) -> Image:
        """Shape of the data argument, in `data_layout`."""
        if self.data_layout == "NCHW":
            return (self.batch, self.in_channels, self.height, self.width)
        return (self.batch, self.height, self.width, self.in_channels)

    @property
    def out_shape(self) -> Image:
        """Shape of the output, and of the residual where there is one: NHWC."""
        return (self.batch, self.out_height, self.out_width, self.out_channels)

    @property
    def rows(self) -> int:
        """Output positions over the whole batch: M where the convolution is a matrix product."""
        return self.batch * self.out_height * self.out_width

    def padded_rows(self, rows: int) -> int:
        """Padded input rows that `rows` output rows read."""
        return (rows - 1) * self.stride[0] + self.window[0]

    def padded_row_bytes(self, channels: int) -> int:
        """Bytes of so many channels of one padded row, in float32."""
        return ((self.out_width - 1) * self.stride[1] + self.window[1]) * channels * 4

    # Arguments.

    @cached_property
    def inputs(self) -> tuple[Argument, ...]:  # asked for at every point of a schedule space
        image = Argument("data", self.data_shape, "float32" if self.data_layout == "NCHW" else self.dtype)
        gate = Argument("gate", (self.batch, 1, 1, self.in_channels), deviation=None)
        residual = Argument("residual", self.out_shape, self.residual_type or self._float)
        grids = [("residual_grid", self.residual_type), ("grid", self.code_type)]
        further = (Argument(name, (2,)) for name, kind in grids if kind)
        return (image, *self.parameters(), *([gate] * self.gated), *([residual] * self.residual), *further)

    @property
    def outputs(self) -> tuple[Argument, ...]:
        sums = Argument("sums_out", (self.batch, self.out_height, self.out_channels))
        return (Argument("out", self.out_shape, self.code_type or self._float), *([sums] * self.row_sums))

    @property
    def _float(self) -> str:
        """The type of what is no code."""
        return "float32" if self.multiplies_codes else self.dtype

    def parameters(self, prefix: str = "") -> tuple[Argument, ...]:
        """Weight and bias, random ones so large that noise leaves them as large as it came; of codes also what sums
        begin at, and their factor, before the bias."""
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel)
        own: dict[_Family, Layout] = {"depthwise": "depthwise", "grouped": "grouped"}
        layout, scale = own.get(self.family, "vectors"), INPUT_SCALE.get(self.activation, 1.0)
        bias = Argument(f"{prefix}bias", shape[:1], layout=layout, scale=scale, groups=self.groups)
        if self.multiplies_codes:
            deviation = _CODES_DEVIATION**-2 * shape[1] ** -0.5
            return (
                Argument(f"{prefix}weight", shape, "int8", layout, deviation=_CODES_DEVIATION),
                Argument(f"{prefix}start", shape[:1], "int32", layout, deviation=_CODES_DEVIATION),
                Argument(f"{prefix}factor", shape[:1], layout=layout, scale=scale, deviation=deviation),
                bias,
            )
        weight = Argument(f"{prefix}weight", shape, self.dtype, layout, scale, prod(shape[1:]) ** -0.5, self.groups)
        return weight, bias

    # What it is to compute.

    @property
    def multiplies_codes(self) -> bool:
        return self.dtype in CODE_TYPES

    @property
    def convolutions(self) -> tuple[Self, ...]:
        """Itself alone; kernels of several have theirs, in turn."""
        return (self,)

    @property
    def macs(self) -> int:
        """Multiply-adds of the convolution; the epilogue is not counted."""
        return self.rows * self.out_channels * (self.in_channels // self.groups) * self.kernel[0] * self.kernel[1]

    def activated(self, *activations: Activation) -> int:
        return prod(self.out_shape) if self.activation in activations else 0

    def reference(self, inputs: Arrays) -> list[Float64]:
        image = inputs["data"].astype(np.float64)
        if self.data_layout == "NCHW":
            image = image.transpose(0, 2, 3, 1)
        if self.gated:
            image = image * inputs["gate"]
        weight = taps(self.input("weight"), inputs["weight"].astype(np.float64))
        sums = convolved(padded(image, self.padding), weight, self.stride, self.dilation, self.groups)
        if self.multiplies_codes:
            sums += summands(self.input("start"), inputs["start"])
            sums *= summands(self.input("factor"), inputs["factor"])
        sums += summands(self.input("bias"), inputs["bias"])
        out = self._finished(sums / self.input("bias").scale, inputs)
        stored = out if self.code_type is None else codes(out, self.code_type, *inputs["grid"])
        return [stored, out.sum(2)] if self.row_sums else [stored]

    def _finished(self, sums: Float64, inputs: Arrays) -> Float64:
        if not self.residual:
            return activated(sums, self.activation)
        residual = inputs["residual"].astype(np.float64)
        residual = numbers(residual, *inputs["residual_grid"]) if self.residual_type else residual
        if self.activation_last:
            return activated(sums + residual, self.activation)
        return activated(sums, self.activation) + residual

    # What it is among kernels.

    @property
    def family(self) -> _Family:
        if self.groups == 1:
            one_by_one = self.kernel == (1, 1) and not any(self.padding)
            if one_by_one and self.height == self.width == 1 and self.data_layout == "NHWC":
                return "dense"
            if one_by_one and self.stride == (1, 1) and self.data_layout == "NHWC":
                return "pointwise"
            return "conv2d"
        spread = self.dilation != (1, 1)
        if self.groups == self.in_channels == self.out_channels and self.data_layout == "NHWC" and not spread:
            return "depthwise"
        return "grouped"

    @property
    def is_stem(self) -> bool:
        """Whether it is a window over the image as the user has it."""
        return self.family == "conv2d" and self.data_layout == "NCHW"

    @property
    def group(self) -> str:
        """Stems and gated products are groups of their own."""
        return "stem" if self.is_stem else "gated_pointwise" if self.gated else self.family

    @property
    def looks_ahead(self) -> bool:
        return self.family == "pointwise"

    def with_ahead(self, shapes: tuple[Shape, ...]) -> Self:
        return replace(self, ahead=shapes)

    @property
    def name(self) -> str:
        first, last = ("none", self.activation) if self.activation_last else (self.activation, "none")
        own: Fields = {"rows": self.rows, "first_activation": first, "last_activation": last}
        if self.padding == usual_padding(self.kernel):
            own["padding"] = None
        return _NAMES[self.family].write(vars(self) | own)

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        found = next((fields for grammar in _NAMES.values() if (fields := grammar.read(name)) is not None), None)
        return None if found is None else cls(**_fields_of_constructor(found))


def _fields_of_constructor(said: Fields) -> dict[str, Any]:
    """Everything about a convolution from what its name says."""
    first, last = said.pop("first_activation"), said.pop("last_activation")
    said |= {"activation": first if last == "none" else last, "activation_last": last != "none"}
    if "out_channels" not in said:  # depthwise
        said["out_channels"] = said["groups"] = said["in_channels"]
    if "kernel" not in said:  # matrix products; a pointwise one says how many rows, and the sides where they differ
        side = isqrt(said.pop("rows", said["batch"]) // said["batch"])
        return {"height": side, "width": side} | said
    return said | {"padding": said["padding"] or usual_padding(said["kernel"])}


_KERNEL_AND_STRIDE = together(pair("k", "kernel"), pair("s", "stride"))
_CHANNELS = together(number("i", "in_channels"), number("o", "out_channels"))
_DEPTH, _COLUMNS = number("k", "in_channels"), number("n", "out_channels")
# One tap has no distance to another, and a 1x1 image may be strided without any effect: the workloads differ, so must
# the names.
_STRIDE, _DILATION = pair("s", "stride", (1, 1)), pair("d", "dilation", (1, 1))
_PADDING, _LAYOUT = sides("p", "padding", None), word("data_layout", {"NHWC": "nhwc", "NCHW": "nchw"}, "NHWC")
_FINISH = (
    activation("first_activation"),
    flag("gated", "gated"),
    flag("residual", "res"),
    activation("last_activation"),
    flag("row_sums", "sums"),
    CODES_ADDED,
    CODES_MADE,
    AHEAD,
)
_NAMES: dict[_Family, Grammar] = {
    "pointwise": Grammar("pointwise", number("m", "rows"), _DEPTH, _COLUMNS, UNEQUAL_SIZE, _DILATION, BATCH, *_FINISH),
    "dense": Grammar("dense", _DEPTH, _COLUMNS, _STRIDE, _DILATION, BATCH, *_FINISH),
    "depthwise": Grammar("dwconv2d", _KERNEL_AND_STRIDE, number("c", "in_channels"), SIZE, _PADDING, BATCH, *_FINISH),
    "conv2d": Grammar("conv2d", _KERNEL_AND_STRIDE, _CHANNELS, SIZE, _DILATION, _PADDING, BATCH, _LAYOUT, *_FINISH),
    "grouped": Grammar(
        "gconv2d",
        _KERNEL_AND_STRIDE,
        _CHANNELS,
        SIZE,
        number("g", "groups"),
        _DILATION,
        _PADDING,
        BATCH,
        _LAYOUT,
        *_FINISH,
    ),
}
