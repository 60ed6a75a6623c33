"""What the graph must know of an operator, and how its attributes are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from effgen.errors import GraphError

Shape: TypeAlias = tuple[int, ...]
AttributeValue: TypeAlias = int | float | str | tuple[int, ...] | tuple[float, ...]
Attributes: TypeAlias = Mapping[str, AttributeValue]


@dataclass(frozen=True)
class OpInfo:
    """What the graph must know of an operator.

    `infer(shapes, attributes)` gives the output's shape or raises GraphError; `macs(shapes, output)` counts
    multiply-adds (only convolutions and linear layers have any: the paper's "FLOPS"). `optional` attributes are there
    where they say something: a dilation other than 1.
    """

    arity: tuple[int, int]
    attributes: frozenset[str]
    infer: Callable[[Sequence[Shape], Attributes], Shape]
    macs: Callable[[Sequence[Shape], Shape], int]
    optional: frozenset[str] = frozenset()


def ints(attributes: Attributes, key: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """A tuple attribute, or its default."""
    value = attributes.get(key, default)
    assert isinstance(value, tuple), f"{key} = {value}"
    return value  # type: ignore[return-value]


def integer(attributes: Attributes, key: str, default: int) -> int:
    """A whole-number attribute, or its default."""
    value = attributes.get(key, default)
    assert isinstance(value, int), f"{key} = {value}"
    return value


def number(attributes: Attributes, key: str) -> float:
    """An attribute that is one number."""
    value = attributes[key]
    assert isinstance(value, int | float), f"{key} = {value}"
    return float(value)


def text(attributes: Attributes, key: str) -> str:
    """An attribute that is a word."""
    value = attributes[key]
    assert isinstance(value, str), f"{key} = {value}"
    return value


def no_macs(shapes: Sequence[Shape], output: Shape) -> int:
    """Of what multiplies no weights."""
    return 0


def same_shape(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    """The output is as large as the first input."""
    return shapes[0]


def elementwise(*attributes: str) -> OpInfo:
    """A function of one element."""
    return OpInfo((1, 1), frozenset(attributes), same_shape, no_macs)


def check_axes(op_type: str, shape: Shape, axes: Sequence[int]) -> None:
    """Raise GraphError unless `axes` are different axes of a tensor of this shape, counted from the front."""
    if len(set(axes)) != len(axes) or not all(0 <= axis < len(shape) for axis in axes):
        raise GraphError(f"{op_type}: axes {tuple(axes)} of {shape}: expected each of its axes once at most")
