"""Activations as TIR expressions that stay vectorised.

On CPU TVM lowers `exp` to a scalar libm call a lane: an epilogue with it costs more than the convolution.
Here 2^a is range reduction, a polynomial and exponent bits, all of it plain arithmetic of one lane:

    n = round(a)              through the sum with a magic number, whose low bits then hold n + 127
    f = a - n                 in [-1/2, 1/2]
    2^a = 2^f * 2^n           2^f by a polynomial, 2^n by shifting n + 127 into the exponent field

`sigmoid` and `silu` take a = -x log2(e): the weights and the bias that make it are packed so (`INPUT_SCALE`), which
turns two multiply-adds of every output into additions. They never form exp(-x): the product is one multiply-add of
the denominator 1 + 2^f * 2^n. silu's numerator is a itself, and the polynomial makes -log2(e) times the denominator.
That is 13 operations, five of them the polynomial.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Expr

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import INPUT_SCALE
from effgen.kernels.workload import Activation

# 2^f - 1 over f, least maximum relative error of 2^f on [-1/2, 1/2] (1.1e-7), coefficients of f^1 .. f^5.
_EXP2 = (0.6931470036506653, 0.24022242426872253, 0.05550733581185341, 0.009671512991189957, 0.001326472731307149)
_MINUS_LOG2E = INPUT_SCALE["silu"]
# 1.5 * 2^23: adding it leaves no fraction bits, so the sum is rounded to an integer; 127 is the exponent bias.
_MAGIC = 1.5 * 2.0**23 + 127.0
_MANTISSA_BITS = 23
# |a| beyond 126 would leave the exponent field of 2^n. Sigmoid is 1 to float32's last bit long before, and where it is
# as good as 0 it stays so large that products of it with what follows are no denormal numbers, which are slow.
_LIMIT = 60.0


class _Bindings:
    """Values bound once and used many times: in a plain expression tree each use would repeat the whole value."""

    def __init__(self) -> None:
        self._bound: list[tuple[tirx.Var, Expr]] = []

    def bind(self, name: str, value: Expr, dtype: str = "float32") -> Expr:
        variable = tirx.Var(name, dtype)
        self._bound.append((variable, value))
        return variable

    def around(self, body: Expr) -> Expr:
        """`body` inside all that was bound."""
        for variable, value in reversed(self._bound):
            body = tirx.Let(variable, value, body)
        return body


def _float(value: float) -> Expr:
    return tirx.const(value, "float32")


def _at_least(x: Expr, low: float) -> Expr:
    """max(x, low) that keeps NaN: a comparison with NaN is false, so NaN must be what "else" gives."""
    return tirx.Select(x < _float(low), _float(low), x)


def _at_most(x: Expr, high: float) -> Expr:
    return tirx.Select(x > _float(high), _float(high), x)


def _scaled_one_plus_exp2(a: Expr, scale: float, bindings: _Bindings) -> Expr:
    """scale * (1 + 2^a) for |a| <= _LIMIT."""
    bits = bindings.bind("bits", tirx.reinterpret("int32", a + _float(_MAGIC)), "int32")
    # Back through the bits: TVM simplifies (a + b) - b to a for floats as well, losing the rounding.
    fraction = bindings.bind("fraction", a - (tirx.reinterpret("float32", bits) - _float(_MAGIC)))
    power = tirx.reinterpret("float32", bits << tirx.const(_MANTISSA_BITS, "int32"))
    return _scaled_exp2(fraction, scale) * power + _float(scale)


def _scaled_exp2(fraction: Expr, scale: float) -> Expr:
    """scale * 2^fraction for |fraction| <= 1/2, by Horner's rule."""
    power = _float(scale * _EXP2[-1])
    for coefficient in (*reversed(_EXP2[:-1]), 1.0):
        power = power * fraction + _float(scale * coefficient)
    return power


def sigmoid(a: Expr) -> Expr:
    """1 / (1 + exp(-x)) of a = -x log2(e), float32; absolute error below 2e-7, NaN in, NaN out."""
    bindings = _Bindings()
    _, bounded = _bounds(a, bindings)
    return bindings.around(_float(1.0) / _scaled_one_plus_exp2(bounded, 1.0, bindings))


def silu(a: Expr) -> Expr:
    """x * sigmoid(x) of a = -x log2(e), float32; x of -inf gives about -0, of +inf +inf, of NaN NaN."""
    bindings = _Bindings()
    low, bounded = _bounds(a, bindings)
    return bindings.around(low / _scaled_one_plus_exp2(bounded, _MINUS_LOG2E, bindings))


def _bounds(a: Expr, bindings: _Bindings) -> tuple[Expr, Expr]:
    """a bounded from above (x from below), and from both sides."""
    low = bindings.bind("a_low", _at_most(bindings.bind("a", a), _LIMIT))
    return low, bindings.bind("a_bounded", _at_least(low, -_LIMIT))


def relu(x: Expr) -> Expr:
    """max(x, 0)."""
    return _at_least(x, 0.0)


def relu6(x: Expr) -> Expr:
    """min(max(x, 0), 6)."""
    return _at_most(_at_least(x, 0.0), 6.0)


def hard_sigmoid(x: Expr) -> Expr:
    """relu6(x + 3) / 6."""
    return relu6(x + tirx.const(3.0, "float32")) * tirx.const(1.0 / 6.0, "float32")


def hard_swish(x: Expr) -> Expr:
    """x * relu6(x + 3) / 6."""
    return x * hard_sigmoid(x)


_EXPRESSION: dict[Activation, Callable[[Expr], Expr]] = {
    "none": lambda x: x,
    "silu": silu,
    "sigmoid": sigmoid,
    "relu": relu,
    "relu6": relu6,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
}


def activate(x: Expr, activation: Activation) -> Expr:
    """`activation` of one float32 expression, which is the argument times `INPUT_SCALE[activation]` (if any)."""
    return _EXPRESSION[activation](x)


def finished(
    value: Expr, conv: Conv2d, residual: Expr | None, activate: Callable[[Expr, Activation], Expr] = activate
) -> Expr:
    """What is stored for a convolution's sum, float32: activated, and the residual added before or after."""
    if residual is not None and conv.activation_last:
        # The sum comes multiplied by what the activation wants; the residual does not.
        scale = INPUT_SCALE.get(conv.activation, 1.0)
        return activate(value + (residual if scale == 1.0 else residual * _float(scale)), conv.activation)
    value = activate(value, conv.activation)
    return value if residual is None else value + residual
