"""The workload that most kernels have: one convolution, with what is done to its result."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

Activation = Literal["none", "silu", "sigmoid", "relu", "relu6", "hard_sigmoid", "hard_swish"]
DataLayout = Literal["NHWC", "NCHW"]
Family = Literal[
    "pointwise", "dense", "depthwise", "conv2d", "grouped", "pool", "scale", "squeeze_excite", "window_pool", "concat"
]
Shape: TypeAlias = tuple[int, ...]

#: Types as kernels' names have them.
SHORT_DTYPE = {"float32": "f32", "float16": "f16"}
_KERNEL_NAME_OF_FAMILY: dict[Family, str] = {
    "pointwise": "pointwise",
    "dense": "dense",
    "depthwise": "dwconv2d",
    "conv2d": "conv2d",
    "grouped": "gconv2d",
}


@dataclass(frozen=True)
class Conv2d:
    """`activation(conv(data, weight) + bias) [+ residual]`, output NHWC.

    With `activation_last` it is `activation(conv(data, weight) + bias + residual)`: where ResNet's blocks end.
    `dilation`: pixels from one tap to the next; convolutions so spread are of no other family than "conv2d" and
    "grouped".

    `data_layout` is the layout of the input alone: NCHW lets the stem read an image without a transposed
    copy. `padding` is (top, left, bottom, right). There is always a bias argument.

    Squeeze-excite's two ends may be part of it: with `row_sums` (depthwise) there is a second output
    (batch, out_height, out_channels), the sums over every output row, from which the mean is had without reading the
    image again; `gated` (pointwise) multiplies the input channels by a gate (batch, 1, 1, in_channels).

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
    dtype: str = "float32"

    def __post_init__(self) -> None:
        assert self.in_channels % self.groups == 0 and self.out_channels % self.groups == 0, self
        assert self.out_height > 0 and self.out_width > 0, self
        assert not (self.gated or self.ahead) or self.family == "pointwise", self
        assert not self.row_sums or self.family == "depthwise", self
        # Without an activation there is but one order, and one name for it.
        assert not self.activation_last or (self.residual and self.activation != "none"), self

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
    def data_shape(self) -> tuple[int, int, int, int]:
        """Shape of the data argument, in `data_layout`."""
        if self.data_layout == "NCHW":
            return (self.batch, self.in_channels, self.height, self.width)
        return (self.batch, self.height, self.width, self.in_channels)

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output, and of the residual where there is one: NHWC."""
        return (self.batch, self.out_height, self.out_width, self.out_channels)

    @property
    def gate_shape(self) -> tuple[int, int, int, int]:
        """Shape of the gate where `gated`."""
        return (self.batch, 1, 1, self.in_channels)

    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all outputs."""
        sums = (self.batch, self.out_height, self.out_channels)
        return (self.out_shape, sums) if self.row_sums else (self.out_shape,)

    @property
    def bytes(self) -> int:
        """Bytes that have to be read and written once: data, weight, bias, residual, gate, outputs."""
        weight = self.out_channels * (self.in_channels // self.groups * self.kernel[0] * self.kernel[1] + 1)
        extra = prod(self.out_shape) * self.residual + prod(self.gate_shape) * self.gated
        return 4 * (prod(self.data_shape) + weight + extra + sum(map(prod, self.out_shapes)))

    @property
    def rows(self) -> int:
        """Output positions over the whole batch: M where the convolution is a matrix product."""
        return self.batch * self.out_height * self.out_width

    @property
    def macs(self) -> int:
        """Multiply-adds of the convolution; the epilogue is not counted."""
        return self.rows * self.out_channels * (self.in_channels // self.groups) * self.kernel[0] * self.kernel[1]

    @property
    def family(self) -> Family:
        """Which schedule rule is meant for it."""
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
    def name(self) -> str:
        """The kernel's one printed name: the usual facts always, the unusual ones only where they differ."""
        short = f"{SHORT_DTYPE[self.dtype]}_{_KERNEL_NAME_OF_FAMILY[self.family]}"
        if self.family == "pointwise":
            parts = [short, f"m{self.rows}", f"k{self.in_channels}", f"n{self.out_channels}"]
            parts += [f"h{self.height}w{self.width}"] if self.height != self.width else []
            parts += [f"b{self.batch}"] if self.batch != 1 else []
        elif self.family == "dense":
            parts = [short, f"k{self.in_channels}", f"n{self.out_channels}"]
            # A 1x1 image may be strided without any effect: the workloads differ, so must the names.
            parts += [f"s{_size(self.stride)}"] if self.stride != (1, 1) else []
            parts += [f"b{self.batch}"] if self.batch != 1 else []
        else:
            parts = [short, *self._window_parts()]
        if self.activation != "none" and not self.activation_last:
            parts.append(self.activation)
        flags = {"gated": self.gated, "res": self.residual, self.activation: self.activation_last}
        flags |= {"sums": self.row_sums}
        return "_".join([*parts, *(flag for flag, there in flags.items() if there), *ahead_parts(self.ahead)])

    def _window_parts(self) -> list[str]:
        parts = [f"k{_size(self.kernel)}s{_size(self.stride)}"]
        if self.family == "depthwise":
            parts.append(f"c{self.in_channels}")
        else:
            parts.append(f"i{self.in_channels}o{self.out_channels}")
        parts.append(f"h{self.height}" if self.height == self.width else f"h{self.height}w{self.width}")
        if self.family == "grouped":
            parts.append(f"g{self.groups}")
        if self.dilation != (1, 1):
            parts.append(f"d{_size(self.dilation)}")
        if self.padding != _usual_padding(self.kernel):
            parts.append("p" + "x".join(map(str, self.padding)))
        if self.batch != 1:
            parts.append(f"b{self.batch}")
        if self.data_layout != "NHWC":
            parts.append(self.data_layout.lower())
        return parts


def ahead_parts(shapes: tuple[Shape, ...]) -> list[str]:
    """In KiB, of each."""
    return ["ahead" + "x".join(str(prod(shape) * 4 // 1024) for shape in shapes)] if shapes else []


def _usual_padding(kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    top, left = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
    return (top, left, top, left)


def _size(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
