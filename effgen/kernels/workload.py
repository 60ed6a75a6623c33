"""What a kernel computes, as plain frozen data. No compiler is needed to make or name a workload.

A kind of kernel is a frozen dataclass in a file of its own in `effgen.kernels.kinds`; it alone says what is true of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, Self, TypeAlias, TypeVar, final

import numpy as np
from numpy.typing import NDArray

#: What is done to a convolution's result: one of `ACTIVATIONS`, or one with numbers in its name (`leaky_relu`, `clip`,
#: `elu`), which `activation_and_numbers` reads.
Activation: TypeAlias = str
DataLayout = Literal["NHWC", "NCHW"]
Shape: TypeAlias = tuple[int, ...]
Image: TypeAlias = tuple[int, int, int, int]
#: Arrays by the names of the arguments that they are.
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Float64: TypeAlias = NDArray[np.float64]

ACTIVATIONS: tuple[Activation, ...] = (
    "none", "silu", "sigmoid", "relu", "relu6", "hard_sigmoid", "hard_swish", "gelu", "gelu_tanh", "mish", "tanh",
)  # fmt: skip
#: How many numbers follow these.
WITH_NUMBERS = {"leaky_relu": 1, "clip": 2, "elu": 1}
#: Those with an exponential in them: many times as dear as the others.
EXPONENTIALS: tuple[Activation, ...] = ("silu", "sigmoid", "gelu", "gelu_tanh", "mish", "tanh")


def is_exponential(activation: Activation) -> bool:
    """Whether it is one of those, or one with numbers that is as dear."""
    return activation in EXPONENTIALS or activation_and_numbers(activation)[0] == "elu"


def leaky_relu(slope: float) -> Activation:
    """x, or slope * x below 0."""
    return f"leaky_relu_{_spelled(slope)}"


def clip(low: float, high: float) -> Activation:
    """No less than `low` and no more than `high`, which may be infinite; `high` where they contradict."""
    return f"clip_{_spelled(low)}_{_spelled(high)}"


def elu(alpha: float) -> Activation:
    """x, or alpha * (e^x - 1) below 0."""
    return f"elu_{_spelled(alpha)}"


def activation_and_numbers(activation: Activation) -> tuple[str, tuple[float, ...]]:
    """`leaky_relu_0p1` -> leaky_relu and 0.1; of others no numbers."""
    word = next((word for word in WITH_NUMBERS if activation.startswith(f"{word}_")), None)
    if word is None:
        return activation, ()
    texts = activation.removeprefix(f"{word}_").split("_")
    return word, tuple(float(np.float32(text.replace("p", ".").replace("m", "-"))) for text in texts)


def _spelled(number: float) -> str:
    """A float32 number in letters of identifiers, exactly: `m0p5`, `1em05`."""
    return str(np.float32(number)).replace("+", "").replace(".", "p").replace("-", "m")


@dataclass(frozen=True)
class NumberType:
    """How kernels' names have a type, and what one value takes."""

    short: str
    bytes: int


#: The types of what kernels read and write: another one is a line here.
NUMBER_TYPES = {
    "float32": NumberType("f32", 4),
    "float16": NumberType("f16", 2),
    "uint8": NumberType("u8", 1),
    "int8": NumberType("i8", 1),
    "int32": NumberType("i32", 4),
}
#: Those that every kernel can have its activations and weights in.
FLOAT_TYPES = ("float32", "float16")
#: Those that are whole-number codes of activations, with the least and the greatest.
CODE_TYPES = {"uint8": (0, 255), "int8": (-128, 127)}


#: How a parameter's output channels, its first axis, lie in memory (`effgen.kernels.packing.packed_shape`).
Layout = Literal["plain", "vectors", "depthwise", "grouped"]


@dataclass(frozen=True)
class Argument:
    """An argument of a kernel, of the `shape` that the network has it in: weights [N][K/groups][kh][kw], biases [N].

    A parameter is packed before a kernel gets it: in `layout` (`groups`: of output channels, where that is "grouped"),
    and multiplied by `scale`. Random values of it have the standard `deviation` around 0; None: they are between 0
    and 1.
    """

    name: str
    shape: Shape
    dtype: str = "float32"
    layout: Layout = "plain"
    scale: float = 1.0
    deviation: float | None = 1.0
    groups: int = 1

    @property
    def is_weight(self) -> bool:
        return self.name.endswith("weight")

    @property
    def bytes(self) -> int:
        """What its values take, without those that only fill up vectors."""
        return prod(self.shape) * NUMBER_TYPES[self.dtype].bytes


class Workload(ABC):
    """One kernel's work. Equal workloads share a kernel, and different ones have different names.

    `dtype` is the type of activations and weights. What is small or a sum (biases, gates, sums of rows) is float32
    whatever that is, and so is an image as the user has it.
    """

    @property
    @abstractmethod
    def dtype(self) -> str: ...

    @property
    @abstractmethod
    def data_shape(self) -> Shape:
        """Shape of the first input."""

    @property
    @abstractmethod
    def out_shape(self) -> Image:
        """Shape of the first output: NHWC."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[Argument, ...]:
        """What is read, in the order of the kernel's arguments. What is only asked for ahead comes after them."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[Argument, ...]:
        """What is written, in the order of the kernel's arguments: its last ones."""

    @property
    @abstractmethod
    def family(self) -> str:
        """Which schedule rule is meant for it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The kernel's one printed name, a C identifier: the usual facts always, unusual ones only where they differ.

        Tuning records are kept by it.
        """

    @classmethod
    @abstractmethod
    def from_name(cls, name: str) -> Self | None:
        """The workload of this kind that has the name, or nearly; None, or an AssertionError, where there is none.

        Names are read by `effgen.kernels.kinds.workload_from_name`, which sees to it that the name is the very same.
        """

    @abstractmethod
    def reference(self, inputs: Arrays) -> list[Float64]:
        """The definition in float64: the outputs for the inputs as the kernel gets them, parameters packed.

        What stands in the lanes that fill up the last vector of a weight or a bias does not matter.
        """

    # What few kinds have to say.

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and dense layers; activations and the like are not counted."""
        return 0

    @property
    def group(self) -> str:
        """Kernels of one group take alike long for alike work: the family, or a part of it."""
        return self.family

    @property
    def data_layout(self) -> DataLayout:
        """Layout of the first input."""
        return "NHWC"

    @property
    def looks_ahead(self) -> bool:
        """Whether it can ask for weights of later kernels while it computes."""
        return False

    @property
    def ahead(self) -> tuple[Shape, ...]:
        """Shapes of the packed weights that it asks for ahead."""
        return ()

    def with_ahead(self, shapes: tuple[Shape, ...]) -> Self:
        """The workload that computes the same and asks for these packed weights ahead."""
        assert not shapes, self
        return self

    def with_dtype(self, dtype: str) -> Self:
        """The workload on activations and weights of another type."""
        return replace(self, **{"dtype": dtype})  # type: ignore[type-var]

    def activated(self, *activations: Activation) -> int:
        """Values of images that go through one of these activations (squeeze-excite's are few and left out)."""
        return 0

    # What follows from the rest.

    @final
    @property
    def out_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all outputs."""
        return tuple(output.shape for output in self.outputs)

    @final
    @property
    def bytes(self) -> int:
        """Bytes that have to be read and written once."""
        return sum(argument.bytes for argument in (*self.inputs, *self.outputs))

    @final
    @property
    def weight_bytes(self) -> int:
        """Those of the weights, biases left out."""
        return sum(argument.bytes for argument in self.inputs if argument.is_weight)

    @final
    @property
    def without_ahead(self) -> Self:
        """The workload that computes the same and asks for nothing ahead: what is tuned, and what records speak of."""
        return self.with_ahead(())

    @final
    def input(self, name: str) -> Argument:
        """The input of this name."""
        return next(argument for argument in self.inputs if argument.name == name)


#: For what is of one kind of kernel: a schedule rule, a rewrite of calls.
AnyWorkload = TypeVar("AnyWorkload", bound=Workload)
