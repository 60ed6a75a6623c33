"""Activations and other functions of one number as TIR expressions that stay vectorised.

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

from collections.abc import Callable, Sequence
from math import inf, pi, sqrt

from tvm import tirx
from tvm.ir import Expr

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import INPUT_SCALE
from effgen.kernels.workload import Activation, activation_and_numbers

# 2^f - 1 over f, least maximum relative error of 2^f on [-1/2, 1/2] (1.1e-7), coefficients of f^1 .. f^5.
_EXP2 = (0.6931470036506653, 0.24022242426872253, 0.05550733581185341, 0.009671512991189957, 0.001326472731307149)
_MINUS_LOG2E = INPUT_SCALE["silu"]
# 1.5 * 2^23: adding it leaves no fraction bits, so the sum is rounded to an integer; 127 is the exponent bias.
_MAGIC = 1.5 * 2.0**23 + 127.0
_MANTISSA_BITS = 23
# |a| beyond 126 would leave the exponent field of 2^n. Sigmoid is 1 to float32's last bit long before, and where it is
# as good as 0 it stays so large that products of it with what follows are no denormal numbers, which are slow.
_LIMIT = 60.0
# Where e^x is 0 and where it is infinite, just inside of what the exponent field holds; ln 2 in two parts, the first of
# few bits, so that whole multiples of it are exact.
_EXP_RANGE = (-87.6, 88.8)
_LN2 = (0.693359375, -2.12194440e-4)
# Least maximum relative error of erf(x) / x in x^2 up to 1 (4e-8), and of tanh(x) / x up to _TANH_IS_NEAR (4e-9).
_ERF_NEAR = (1.1283791065, -0.3761232495, 0.1128017977, -0.0267113112, 0.0049175508, -0.0005631420)
_TANH_NEAR = (1.0, -0.3333325982, 0.1333112717, -0.0537210666, 0.0205909815, -0.0056599821)
_TANH_IS_NEAR = 0.625
# log2 of erfc(x) from 1 to 4, and of erfc(x / sqrt 2) / 2 from 0 to _GELU_END, of least maximum absolute error of erf
# (1e-9) and of gelu (1e-8). (1 + x) log's: of the logarithm over x (3e-8).
_ERFC_LOG2 = (
    -0.0005103079, -1.6259751320, -0.9207649827, -0.1486515105, 0.0314584263, -0.0042409576, 0.0002677268,
)  # fmt: skip
_GELU_LOG2 = (
    -1.0, -1.1511099339, -0.4591689110, -0.0526122600, 0.0072279153, -0.0002610724, -0.0001353237, 2.8757131e-05,
    -1.9534446e-06,
)  # fmt: skip
_GELU_END = 6.5
_LOG1P = (
    0.9999964237, -0.4998740554, 0.3317982554, -0.2407307625, 0.1676478684, -0.0953225121, 0.0360845327, -0.0064526158,
)  # fmt: skip


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


def constant(value: float) -> Expr:
    """A float32 number."""
    return tirx.const(value, "float32")


def rounded(x: Expr) -> Expr:
    """The whole number nearest to x, half to even, for |x| up to 2^22 (float32 has no halves beyond 2^23)."""
    # Through the bits, as in `_powers`. TVM 0.27's vectoriser fails at rounding by an intrinsic a sigmoid of what was
    # rounded by one.
    return tirx.reinterpret("float32", rounded_bits(x)) - constant(1.5 * 2**_MANTISSA_BITS)


def rounded_bits(x: Expr) -> Expr:
    """The same as an int32 whose low 22 bits hold it, as two's complement; the others are always the same."""
    return tirx.reinterpret("int32", x + constant(1.5 * 2**_MANTISSA_BITS))


def _at_least(x: Expr, low: float) -> Expr:
    """max(x, low) that keeps NaN: a comparison with NaN is false, so NaN must be what "else" gives."""
    return tirx.Select(x < constant(low), constant(low), x)


def _at_most(x: Expr, high: float) -> Expr:
    return tirx.Select(x > constant(high), constant(high), x)


def clip_between(x: Expr, low: Expr, high: Expr) -> Expr:
    """No less than `low`, no more than `high`; NaN becomes `low`."""
    above = tirx.Select(x > low, x, low)
    return tirx.Select(above < high, above, high)


def _powers(a: Expr, bindings: _Bindings, less: int = 0) -> tuple[Expr, Expr]:
    """f and 2^(n - less) of a = n + f, |f| <= 1/2, for n - less from -127 (of which it makes 0) to 127."""
    magic = constant(_MAGIC - less)
    bits = bindings.bind("bits", tirx.reinterpret("int32", a + magic), "int32")
    # Back through the bits: TVM simplifies (a + b) - b to a for floats as well, losing the rounding.
    whole = tirx.reinterpret("float32", bits) - magic
    power = tirx.reinterpret("float32", bits << tirx.const(_MANTISSA_BITS, "int32"))
    return bindings.bind("fraction", a - whole), power


def _scaled_one_plus_exp2(a: Expr, scale: float, bindings: _Bindings) -> Expr:
    """scale * (1 + 2^a) for |a| <= _LIMIT."""
    fraction, power = _powers(a, bindings)
    return _scaled_exp2(fraction, scale) * power + constant(scale)


def _scaled_exp2(fraction: Expr, scale: float) -> Expr:
    """scale * 2^fraction for |fraction| <= 1/2."""
    return _polynomial(fraction, (scale, *(scale * coefficient for coefficient in _EXP2)))


def _polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """Of ascending powers, by Horner's rule."""
    value = constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + constant(coefficient)
    return value


def _short_chains(x: Expr, coefficients: Sequence[float], bindings: _Bindings) -> Expr:
    """A long polynomial in pairs of powers: half as many results that wait for one another (Estrin's scheme)."""
    values = [constant(coefficient) for coefficient in coefficients]
    while len(values) > 1:
        pairs = [values[i] + values[i + 1] * x if i + 1 < len(values) else values[i] for i in range(0, len(values), 2)]
        values = [bindings.bind("pair", value) for value in pairs]
        x = bindings.bind("power", x * x)
    return values[0]


def sigmoid(a: Expr) -> Expr:
    """1 / (1 + exp(-x)) of a = -x log2(e), float32; absolute error below 2e-7, NaN in, NaN out."""
    bindings = _Bindings()
    _, bounded = _bounds(a, bindings)
    return bindings.around(constant(1.0) / _scaled_one_plus_exp2(bounded, 1.0, bindings))


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


def exp(x: Expr) -> Expr:
    """e^x, float32; relative error below 3e-7, 0 below -86.9, infinite above 88.7, NaN in, NaN out."""
    bindings = _Bindings()
    bounded = bindings.bind("x", _at_most(_at_least(x, _EXP_RANGE[0]), _EXP_RANGE[1]))
    # The whole part is that of x log2(e); what is left of x is taken exactly, in two steps, and has few bits.
    magic = constant(_MAGIC - 1)
    bits = bindings.bind("bits", tirx.reinterpret("int32", bounded * constant(-_MINUS_LOG2E) + magic), "int32")
    whole = bindings.bind("whole", tirx.reinterpret("float32", bits) - magic)
    rest = bindings.bind("rest", bounded - whole * constant(_LN2[0]))
    fraction = bindings.bind("fraction", (rest - whole * constant(_LN2[1])) * constant(-_MINUS_LOG2E))
    power = tirx.reinterpret("float32", bits << tirx.const(_MANTISSA_BITS, "int32"))
    return bindings.around(_scaled_exp2(fraction, 2.0) * power)


def erf(x: Expr) -> Expr:
    """The error function, float32; absolute error below 1.2e-7, NaN in, NaN out.

    Near 0 an odd polynomial, further 1 - 2^p of a polynomial p: there erfc is small, and so is its error.
    """
    bindings = _Bindings()
    x = bindings.bind("x", x)
    size = bindings.bind("size", _at_most(_absolute(x), 4.0))
    near = x * _short_chains(bindings.bind("square", size * size), _ERF_NEAR, bindings)
    fraction, power = _powers(bindings.bind("p", _short_chains(size, _ERFC_LOG2, bindings)), bindings)
    far = bindings.bind("far", constant(1.0) - _scaled_exp2(fraction, 1.0) * power)
    return bindings.around(tirx.Select(size < constant(1.0), near, _with_sign_of(x, far)))


def tanh(x: Expr) -> Expr:
    """Float32; absolute error below 1.5e-7, NaN in, NaN out: near 0 an odd polynomial, further 1 - 2 / (1 + e^2x)."""
    bindings = _Bindings()
    x = bindings.bind("x", x)
    size = bindings.bind("size", _at_most(_absolute(x), 10.0))
    near = x * _short_chains(bindings.bind("square", size * size), _TANH_NEAR, bindings)
    denominator = _scaled_one_plus_exp2(bindings.bind("a", size * constant(-2 * _MINUS_LOG2E)), 0.5, bindings)
    far = bindings.bind("far", constant(1.0) - constant(1.0) / denominator)
    return bindings.around(tirx.Select(size < constant(_TANH_IS_NEAR), near, _with_sign_of(x, far)))


def gelu(x: Expr) -> Expr:
    """x * (1 + erf(x / sqrt 2)) / 2, float32; absolute error below 2e-7 and 2e-7 of x, NaN in, NaN out.

    The share of x is 2^p, of a polynomial p of |x|, below 0 and 1 - 2^p above: no division.
    """
    bindings = _Bindings()
    x = bindings.bind("x", x)
    size = bindings.bind("size", _at_most(_absolute(x), _GELU_END))
    fraction, power = _powers(bindings.bind("p", _short_chains(size, _GELU_LOG2, bindings)), bindings)
    tail = bindings.bind("tail", _scaled_exp2(fraction, 1.0) * power)
    share = tirx.Select(x < constant(0.0), tail, constant(1.0) - tail)
    return bindings.around(_at_least(x, -_GELU_END) * share)


def gelu_tanh(x: Expr) -> Expr:
    """x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, which is x * sigmoid(2 ...), float32; NaN in, NaN out."""
    bindings = _Bindings()
    low = bindings.bind("x_low", _at_least(x, -_GELU_END))
    # x^3 of float32's largest values is infinite, and that is large enough.
    factors = [_MINUS_LOG2E * 2 * sqrt(2 / pi) * factor for factor in (1.0, 0.044715)]
    a = bindings.bind("a", low * _polynomial(low * low, factors))
    return bindings.around(low / _scaled_one_plus_exp2(_at_least(a, -_LIMIT), 1.0, bindings))


def softplus(x: Expr) -> Expr:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), float32; absolute error below 2e-7, NaN in, NaN out."""
    bindings = _Bindings()
    x = bindings.bind("x", x)
    a = bindings.bind("a", _at_least(_absolute(x) * constant(_MINUS_LOG2E), -_LIMIT))
    fraction, power = _powers(a, bindings)
    small = bindings.bind("small", _scaled_exp2(fraction, 1.0) * power)
    return bindings.around(relu(x) + small * _short_chains(small, _LOG1P, bindings))


def mish(x: Expr) -> Expr:
    """x * tanh(log(1 + e^x)) = x * n / (n + 2) of n = e^x (e^x + 2), float32; NaN in, NaN out."""
    bindings = _Bindings()
    x = bindings.bind("x", x)
    low = bindings.bind("x_low", _at_least(x, -40.0))
    a = bindings.bind("a", _at_most(low, 20.0) * constant(-_MINUS_LOG2E))
    fraction, power = _powers(a, bindings)
    w = bindings.bind("w", _scaled_exp2(fraction, 1.0) * power)
    n = bindings.bind("n", w * (w + constant(2.0)))
    return bindings.around(low * (n / (n + constant(2.0))))


def elu(x: Expr, alpha: float) -> Expr:
    """x, or alpha * (e^x - 1) below 0, float32; absolute error below 2e-7 alpha, NaN in, NaN out."""
    bindings = _Bindings()
    x = bindings.bind("x", x)
    a = bindings.bind("a", _at_most(_at_least(x, -40.0), 0.0) * constant(-_MINUS_LOG2E))
    fraction, power = _powers(a, bindings)
    below = constant(alpha) * (_scaled_exp2(fraction, 1.0) * power - constant(1.0))
    return bindings.around(tirx.Select(x > constant(0.0), x, below))


def leaky_relu(x: Expr, slope: float) -> Expr:
    """x, or slope * x below 0; NaN in, NaN out."""
    bindings = _Bindings()
    x = bindings.bind("x", x)
    return bindings.around(tirx.Select(x < constant(0.0), x * constant(slope), x))


def clip(x: Expr, low: float, high: float) -> Expr:
    """min(max(x, low), high); NaN in, NaN out."""
    x = x if low == -inf else _at_least(x, low)
    return x if high == inf else _at_most(x, high)


def _absolute(x: Expr) -> Expr:
    return tirx.Select(x < constant(0.0), constant(0.0) - x, x)


def _with_sign_of(x: Expr, size: Expr) -> Expr:
    return tirx.Select(x < constant(0.0), constant(0.0) - size, size)


_EXPRESSION: dict[Activation, Callable[[Expr], Expr]] = {
    "none": lambda x: x,
    "silu": silu,
    "sigmoid": sigmoid,
    "relu": relu,
    "relu6": relu6,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "mish": mish,
    "tanh": tanh,
}


_WITH_NUMBERS: dict[str, Callable[..., Expr]] = {"leaky_relu": leaky_relu, "clip": clip, "elu": elu}


def activate(x: Expr, activation: Activation) -> Expr:
    """`activation` of one float32 expression, which is the argument times `INPUT_SCALE[activation]` (if any)."""
    word, numbers = activation_and_numbers(activation)
    return _WITH_NUMBERS[word](x, *numbers) if numbers else _EXPRESSION[word](x)


def finished(
    value: Expr, conv: Conv2d, residual: Expr | None, activate: Callable[[Expr, Activation], Expr] = activate
) -> Expr:
    """What is stored for a convolution's sum, float32: activated, and the residual added before or after."""
    if residual is not None and conv.activation_last:
        # The sum comes multiplied by what the activation wants; the residual does not.
        scale = INPUT_SCALE.get(conv.activation, 1.0)
        return activate(value + (residual if scale == 1.0 else residual * constant(scale)), conv.activation)
    value = activate(value, conv.activation)
    return value if residual is None else value + residual
