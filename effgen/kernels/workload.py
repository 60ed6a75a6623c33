"""Workloads: what a kernel computes, as plain frozen data. No compiler is needed to make or name one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from effgen.kernels.convolution import SHORT_DTYPE, Activation, Conv2d, DataLayout, Family, Shape, ahead_parts
from effgen.kernels.images import Concat, Pool2d

__all__ = [
    "Activation",
    "ChannelScale",
    "Concat",
    "Conv2d",
    "DataLayout",
    "ExpandDepthwise",
    "Family",
    "GlobalAveragePool",
    "Pool2d",
    "Shape",
    "SqueezeExcite",
    "Workload",
    "with_dtype",
    "without_ahead",
]


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
        return f"{SHORT_DTYPE[self.dtype]}_{kind}_c{self.channels}_{size}{suffix}"


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
        return "_".join([f"{short}_expand_k{self.expand.in_channels}{activation}_{rest}", *ahead_parts(self.ahead)])


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
        return f"{SHORT_DTYPE[self.dtype]}_se_c{self.channels}_s{self.squeezed}_{size}{suffix}_{acts}"


Workload: TypeAlias = Conv2d | ExpandDepthwise | GlobalAveragePool | ChannelScale | SqueezeExcite | Pool2d | Concat


def without_ahead(workload: Workload) -> Workload:
    """The workload that computes the same and asks for nothing ahead: what is tuned, and what records are called by."""
    return replace(workload, ahead=()) if isinstance(workload, Conv2d | ExpandDepthwise) else workload


def with_dtype(workload: Workload, dtype: str) -> Workload:
    """The workload on activations and weights of another type."""
    if isinstance(workload, ExpandDepthwise):
        expand, depthwise = replace(workload.expand, dtype=dtype), replace(workload.depthwise, dtype=dtype)
        return replace(workload, expand=expand, depthwise=depthwise)
    return replace(workload, dtype=dtype)
