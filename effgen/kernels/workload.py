"""Workloads: what a kernel computes, as plain frozen data. No compiler is needed to make or name one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import prod
from typing import Literal, TypeAlias

Activation = Literal["none", "silu", "sigmoid", "relu", "relu6", "hard_sigmoid", "hard_swish"]
DataLayout = Literal["NHWC", "NCHW"]
Family = Literal["pointwise", "dense", "depthwise", "conv2d", "grouped", "pool", "scale", "squeeze_excite"]
Shape: TypeAlias = tuple[int, ...]

_SHORT_DTYPE = {"float32": "f32", "float16": "f16"}
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
    data_layout: DataLayout = "NHWC"
    activation: Activation = "none"
    residual: bool = False
    gated: bool = False
    row_sums: bool = False
    ahead: tuple[Shape, ...] = ()
    dtype: str = "float32"

    def __post_init__(self) -> None:
        assert self.in_channels % self.groups == 0 and self.out_channels % self.groups == 0, self
        assert self.out_height > 0 and self.out_width > 0, self
        assert not (self.gated or self.ahead) or self.family == "pointwise", self
        assert not self.row_sums or self.family == "depthwise", self

    @property
    def out_height(self) -> int:
        return (self.height + self.padding[0] + self.padding[2] - self.kernel[0]) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        return (self.width + self.padding[1] + self.padding[3] - self.kernel[1]) // self.stride[1] + 1

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
        if self.groups == self.in_channels == self.out_channels and self.data_layout == "NHWC":
            return "depthwise"
        return "grouped"

    @property
    def is_stem(self) -> bool:
        """Whether it is a window over the image as the user has it."""
        return self.family == "conv2d" and self.data_layout == "NCHW"

    @property
    def name(self) -> str:
        """The kernel's one printed name: the usual facts always, the unusual ones only where they differ."""
        short = f"{_SHORT_DTYPE[self.dtype]}_{_KERNEL_NAME_OF_FAMILY[self.family]}"
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
        if self.activation != "none":
            parts.append(self.activation)
        flags = {"gated": self.gated, "res": self.residual, "sums": self.row_sums}
        return "_".join([*parts, *(flag for flag, there in flags.items() if there), *_ahead_parts(self.ahead)])

    def _window_parts(self) -> list[str]:
        parts = [f"k{_size(self.kernel)}s{_size(self.stride)}"]
        if self.family == "depthwise":
            parts.append(f"c{self.in_channels}")
        else:
            parts.append(f"i{self.in_channels}o{self.out_channels}")
        parts.append(f"h{self.height}" if self.height == self.width else f"h{self.height}w{self.width}")
        if self.family == "grouped":
            parts.append(f"g{self.groups}")
        if self.padding != _usual_padding(self.kernel):
            parts.append("p" + "x".join(map(str, self.padding)))
        if self.batch != 1:
            parts.append(f"b{self.batch}")
        if self.data_layout != "NHWC":
            parts.append(self.data_layout.lower())
        return parts


@dataclass(frozen=True)
class _Image(ABC):
    """What the kernels on one NHWC image have in common."""

    batch: int
    height: int
    width: int
    channels: int
    dtype: str = "float32"

    @property
    def data_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.height, self.width, self.channels)

    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all outputs."""
        return (self.out_shape,)

    @property
    @abstractmethod
    def out_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output."""

    def _name(self, kind: str) -> str:
        """`f32_<kind>_c<channels>_h<height>`, with width and batch where they are not the usual."""
        size = f"h{self.height}" if self.height == self.width else f"h{self.height}w{self.width}"
        suffix = f"_b{self.batch}" if self.batch != 1 else ""
        return f"{_SHORT_DTYPE[self.dtype]}_{kind}_c{self.channels}_{size}{suffix}"


@dataclass(frozen=True)
class GlobalAveragePool(_Image):
    """Mean over height and width: NHWC -> (batch, 1, 1, channels)."""

    macs = 0

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, 1, 1, self.channels)

    @property
    def bytes(self) -> int:
        """Bytes that have to be read and written once."""
        return 4 * (prod(self.data_shape) + prod(self.out_shape))

    @property
    def family(self) -> Family:
        return "pool"

    @property
    def name(self) -> str:
        """The kernel's one printed name."""
        return self._name("avgpool")


@dataclass(frozen=True)
class ChannelScale(_Image):
    """`data[n, h, w, c] * gate[n, 0, 0, c]`: how squeeze-excite applies its gate. NHWC."""

    macs = 0

    @property
    def gate_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, 1, 1, self.channels)

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        return self.data_shape

    @property
    def bytes(self) -> int:
        """Bytes that have to be read and written once."""
        return 4 * (2 * prod(self.data_shape) + prod(self.gate_shape))

    @property
    def family(self) -> Family:
        return "scale"

    @property
    def name(self) -> str:
        """The kernel's one printed name."""
        return self._name("scale")


@dataclass(frozen=True)
class ExpandDepthwise:
    """A depthwise convolution whose input is the output of another one, which is never in memory as a whole.

    The other is pointwise, or the stem: a window over an image in NCHW. `ahead` as in Conv2d (not with the stem).
    """

    expand: Conv2d
    depthwise: Conv2d
    ahead: tuple[Shape, ...] = ()

    def __post_init__(self) -> None:
        assert self.expand.family == "pointwise" or (self.expand.is_stem and not self.ahead), self
        assert not self.expand.gated and not self.expand.residual, self
        assert self.depthwise.family == "depthwise" and not self.depthwise.residual, self
        assert self.expand.out_shape == self.depthwise.data_shape, self

    @property
    def data_layout(self) -> DataLayout:
        return self.expand.data_layout

    @property
    def data_shape(self) -> tuple[int, int, int, int]:
        return self.expand.data_shape

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        return self.depthwise.out_shape

    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all outputs."""
        return self.depthwise.out_shapes

    @property
    def family(self) -> Family:
        return "depthwise"

    @property
    def dtype(self) -> str:
        return self.depthwise.dtype

    @property
    def macs(self) -> int:
        """Multiply-adds of both convolutions, without rows that are computed twice."""
        return self.expand.macs + self.depthwise.macs

    @property
    def bytes(self) -> int:
        """Bytes that have to be read and written once; the expanded image is not among them."""
        return self.expand.bytes + self.depthwise.bytes - 8 * prod(self.expand.out_shape)

    @property
    def name(self) -> str:
        """The kernel's one printed name: what is expanded, or the stem's name; then the depthwise kernel's own."""
        short, rest = self.depthwise.name.split("_", 1)
        if self.expand.is_stem:
            return f"{self.expand.name}_{rest}"
        activation = "" if self.expand.activation == "none" else f"_{self.expand.activation}"
        return "_".join([f"{short}_expand_k{self.expand.in_channels}{activation}_{rest}", *_ahead_parts(self.ahead)])


@dataclass(frozen=True)
class SqueezeExcite:
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
    def out_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, 1, 1, self.channels)

    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all outputs."""
        return (self.out_shape,)

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
    def family(self) -> Family:
        return "squeeze_excite"

    @property
    def macs(self) -> int:
        """Multiply-adds of the two dense layers."""
        return self.squeeze.macs + self.excite.macs

    @property
    def bytes(self) -> int:
        """Bytes that have to be read and written once."""
        weights = 2 * self.channels * self.squeezed + self.channels + self.squeezed
        return 4 * (prod(self.data_shape) + weights + prod(self.out_shape))

    @property
    def name(self) -> str:
        """The kernel's one printed name."""
        size = f"h{self.height}" if self.height == self.width else f"h{self.height}w{self.width}"
        suffix = f"_b{self.batch}" if self.batch != 1 else ""
        acts = f"{self.activation}_{self.gate_activation}"
        return f"{_SHORT_DTYPE[self.dtype]}_se_c{self.channels}_s{self.squeezed}_{size}{suffix}_{acts}"


Workload: TypeAlias = Conv2d | ExpandDepthwise | GlobalAveragePool | ChannelScale | SqueezeExcite


def without_ahead(workload: Workload) -> Workload:
    """The workload that computes the same and asks for nothing ahead: what is tuned, and what records are called by."""
    return replace(workload, ahead=()) if isinstance(workload, Conv2d | ExpandDepthwise) else workload


def with_dtype(workload: Workload, dtype: str) -> Workload:
    """The workload on activations and weights of another type."""
    if isinstance(workload, ExpandDepthwise):
        expand, depthwise = replace(workload.expand, dtype=dtype), replace(workload.depthwise, dtype=dtype)
        return replace(workload, expand=expand, depthwise=depthwise)
    return replace(workload, dtype=dtype)


def _ahead_parts(shapes: tuple[Shape, ...]) -> list[str]:
    """In KiB, of each."""
    return ["ahead" + "x".join(str(prod(shape) * 4 // 1024) for shape in shapes)] if shapes else []


def _usual_padding(kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    top, left = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
    return (top, left, top, left)


def _size(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
