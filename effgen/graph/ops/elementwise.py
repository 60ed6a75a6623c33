"""Functions of one element, and of two tensors element by element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from effgen.errors import GraphError
from effgen.graph.ops.info import Attributes, OpInfo, Shape, elementwise, no_macs, number


def is_sixth(factor: float) -> bool:
    """Files hold 1/6 as float32, or a division's result."""
    return abs(factor * 6 - 1) < 1e-6


def is_usual_hard_sigmoid(attributes: Attributes) -> bool:
    """Whether a HardSigmoid is the one inside HardSwish: clip(x / 6 + 1/2, 0, 1)."""
    return is_sixth(number(attributes, "alpha")) and number(attributes, "beta") == 0.5


def _infer_broadcast(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    left, right = shapes
    if len(left) != len(right):
        raise GraphError(f"expected two tensors of one rank, found {left} and {right}")
    for a, b in zip(left, right, strict=True):
        if a != b and 1 not in (a, b):
            raise GraphError(f"{left} and {right} do not broadcast")
    return tuple(max(a, b) for a, b in zip(left, right, strict=True))


def _infer_prelu(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    if _infer_broadcast(shapes, attributes) != shapes[0]:
        raise GraphError(f"PRelu: slope {shapes[1]} of {shapes[0]}: expected one that broadcasts to the data")
    return shapes[0]


_BINARY = OpInfo((2, 2), frozenset(), _infer_broadcast, no_macs)

#: Functions of one element without attributes.
UNARY = (
    "Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Sigmoid",
    "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
)  # fmt: skip

#: Functions of two elements.
BINARY = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub")

ELEMENTWISE: Mapping[str, OpInfo] = {
    **{op_type: elementwise() for op_type in UNARY},
    **dict.fromkeys(BINARY, _BINARY),
    "Celu": elementwise("alpha"),
    "Clip": elementwise("min", "max"),
    "Elu": elementwise("alpha"),
    # A second name of a tensor, for an output that another is as well.
    "Identity": elementwise(),
    # "approximate": "none", by the error function, or "tanh".
    "Gelu": elementwise("approximate"),
    "HardSigmoid": elementwise("alpha", "beta"),
    "LeakyRelu": elementwise("alpha"),
    "PRelu": OpInfo((2, 2), frozenset(), _infer_prelu, no_macs),
    "Selu": elementwise("alpha", "gamma"),
    "ThresholdedRelu": elementwise("alpha"),
}

#: Functions of one element: they treat all of a tensor alike, whatever its shape.
POINTWISE = frozenset(ELEMENTWISE) - {*BINARY, "PRelu", "Identity"}
