"""Activations on a GPU, which has a unit for 2^x: sigmoid and silu of a = -x log2(e), as the weights are packed."""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.math import activate as activate_by_arithmetic
from effgen.kernels.math import finished as finished_with
from effgen.kernels.packing import INPUT_SCALE
from effgen.kernels.workload import Activation

# 2^a beyond this is infinite in float32, and silu's infinity divided by infinity no number.
_LIMIT = 126.0


def activate(a: Expr, activation: Activation) -> Expr:
    """`activation` of a float32 expression, which is the argument times `INPUT_SCALE[activation]` (if any)."""
    if activation not in ("silu", "sigmoid"):
        return activate_by_arithmetic(a, activation)
    bound = tirx.Var("a", "float32")
    low = tirx.Select(bound > tirx.const(_LIMIT, "float32"), tirx.const(_LIMIT, "float32"), bound)
    numerator = tirx.const(1.0, "float32")
    if activation == "silu":
        numerator = low * tirx.const(1.0 / INPUT_SCALE["silu"], "float32")
    return tirx.Let(bound, a, numerator / (tirx.const(1.0, "float32") + tirx.exp2(low)))


def finished(value: Expr, conv: Conv2d, residual: Expr | None) -> Expr:
    """What is stored for a convolution's sum, float32: activated, and the residual added before or after."""
    return finished_with(value, conv, residual, activate)
