"""Graph operators that no kernel of ours computes, as Relax: TVM lowers and fuses them.

Each function gives a value and the layout in which it is stored. Operators that treat all elements alike take any
layout and keep it; those along axes find where the axes are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from tvm import relax

from effgen.compiler.calls import CodesOf, pool2d_of
from effgen.compiler.gathers import padded, resized, window_sums
from effgen.compiler.tensors import NHWC, Layout, Tensors, places, plain, stored
from effgen.graph import Node
from effgen.graph.codes import spread
from effgen.graph.ops import CODES, floats, integer, ints, number, text
from effgen.graph.resize import resize_taps

_Expr: TypeAlias = relax.Expr
_Lowered: TypeAlias = tuple[relax.Expr, Layout]
_Lower: TypeAlias = Callable[[Tensors, Node], _Lowered]


def lowered(tensors: Tensors, node: Node) -> None:
    """Compute `node` and put its output."""
    value, layout = OPERATORS[node.op_type](tensors, node)
    tensors.put(node.output, value if isinstance(value, relax.Var) else tensors.emit(value), layout)


# Element by element.


def _unary(op: Callable[[Tensors, _Expr], _Expr]) -> _Lower:
    def lower(t: Tensors, node: Node) -> _Lowered:
        layout = t.layout(node.inputs[0])
        return op(t, t.laid(node.inputs[0], layout)), layout

    return lower


def _of(op: Callable[[_Expr], _Expr]) -> _Lower:
    return _unary(lambda t, x: op(x))


def _with(op: Callable[[Tensors, _Expr, Node], _Expr]) -> _Lower:
    """Of one element, by the node's attributes."""

    def lower(t: Tensors, node: Node) -> _Lowered:
        layout = t.layout(node.inputs[0])
        return op(t, t.laid(node.inputs[0], layout), node), layout

    return lower


def _binary(op: Callable[[_Expr, _Expr], _Expr]) -> _Lower:
    return lambda t, node: _together(t, node, op)


def _together(t: Tensors, node: Node, op: Callable[[_Expr, _Expr], _Expr]) -> _Lowered:
    """In the layout of the larger operand."""
    tensors = [name for name in node.inputs if not t.is_constant(name)]
    layout = t.layout(max(tensors, key=lambda name: math.prod(t.shape(name))))
    return op(*(t.laid(name, layout) for name in node.inputs)), layout


def _clip(t: Tensors, x: _Expr, node: Node) -> _Expr:
    return relax.op.clip(x, number(node.attributes, "min"), number(node.attributes, "max"))


def _hard_sigmoid(t: Tensors, x: _Expr, node: Node) -> _Expr:
    return _line_clipped(t, x, number(node.attributes, "alpha"), number(node.attributes, "beta"))


def _line_clipped(t: Tensors, x: _Expr, alpha: float, beta: float) -> _Expr:
    line = relax.op.add(relax.op.multiply(x, t.number(alpha)), t.number(beta))
    return t.emit(relax.op.clip(t.emit(line), 0, 1))


def _prelu(x: _Expr, slope: _Expr) -> _Expr:
    zero = relax.const(0, x.ty.dtype)
    return relax.op.add(relax.op.maximum(x, zero), relax.op.multiply(slope, relax.op.minimum(x, zero)))


def _softplus(t: Tensors, x: _Expr) -> _Expr:
    """max(x, 0) + log(1 + exp(-|x|)): no exponential overflows."""
    small = t.emit(relax.op.exp(relax.op.negative(relax.op.abs(x))))
    log = t.emit(relax.op.log(t.emit(relax.op.add(small, t.number(1)))))
    return relax.op.add(relax.op.maximum(x, t.number(0)), log)


def _expm1(t: Tensors, x: _Expr) -> _Expr:
    """exp(x) - 1 for x below 0: near 0 by 2 tanh(x / 2) / (1 - tanh(x / 2)), which keeps its digits."""
    half = t.emit(relax.op.tanh(t.emit(relax.op.multiply(x, t.number(0.5)))))
    return relax.op.divide(relax.op.multiply(half, t.number(2)), relax.op.subtract(t.number(1), half))


def _elu_like(t: Tensors, x: _Expr, alpha: float, divided: float = 1.0) -> _Expr:
    """max(x, 0) + alpha (exp(min(x, 0) / divided) - 1)."""
    below = t.emit(relax.op.multiply(relax.op.minimum(x, t.number(0)), t.number(1 / divided)))
    curve = t.emit(relax.op.multiply(t.emit(_expm1(t, below)), t.number(alpha)))
    return relax.op.add(relax.op.maximum(x, t.number(0)), curve)


def _celu(t: Tensors, x: _Expr, node: Node) -> _Expr:
    alpha = number(node.attributes, "alpha")
    return _elu_like(t, x, alpha, alpha)


def _selu(t: Tensors, x: _Expr, node: Node) -> _Expr:
    curve = t.emit(_elu_like(t, x, number(node.attributes, "alpha")))
    return relax.op.multiply(curve, t.number(number(node.attributes, "gamma")))


def _gelu(t: Tensors, x: _Expr, node: Node) -> _Expr:
    by_tanh = text(node.attributes, "approximate") == "tanh"
    return relax.op.nn.gelu_tanh(x) if by_tanh else relax.op.nn.gelu(x)


def _thresholded(t: Tensors, x: _Expr, node: Node) -> _Expr:
    over = relax.op.greater(x, t.number(number(node.attributes, "alpha")))
    return relax.op.where(over, x, t.number(0))


def _mish(t: Tensors, x: _Expr) -> _Expr:
    return relax.op.multiply(x, t.emit(relax.op.tanh(t.emit(_softplus(t, x)))))


def _hard_swish(t: Tensors, x: _Expr) -> _Expr:
    return relax.op.multiply(x, _line_clipped(t, x, 1 / 6, 0.5))


def _softsign(t: Tensors, x: _Expr) -> _Expr:
    return relax.op.divide(x, relax.op.add(relax.op.abs(x), t.number(1)))


def _quantize(t: Tensors, node: Node) -> _Lowered:
    """Divided, rounded half to even, and only then moved, as onnxruntime does it; clipped before, to the same codes."""
    layout, stored = t.layout(node.inputs[0]), t.codes.get(node.output)
    scale, zero = _grid(t, node, stored, layout)
    kind = text(node.attributes, "type") if stored is None else stored.type
    low, high = (t.emit(relax.op.subtract(t.number(bound), zero)) for bound in CODES[kind])
    steps = t.emit(relax.op.divide(t.laid(node.inputs[0], layout), scale))
    clipped = t.emit(relax.op.maximum(t.emit(relax.op.minimum(steps, high)), low))
    codes = relax.op.add(t.emit(relax.op.round(clipped)), zero)
    return codes if stored is None else relax.op.astype(t.emit(codes), stored.type), layout


def _dequantize(t: Tensors, node: Node) -> _Lowered:
    layout, stored = t.layout(node.inputs[0]), t.codes.get(node.inputs[0])
    scale, zero = _grid(t, node, stored, layout)
    codes = t.converted(t.laid(node.inputs[0], layout), t.dtype)
    return relax.op.multiply(t.emit(relax.op.subtract(codes, zero)), scale), layout


def _grid(t: Tensors, node: Node, stored: CodesOf | None, layout: Layout) -> tuple[_Expr, _Expr]:
    """Scale and zero point, of codes as they are `stored` or as the graph has them."""
    if stored is not None:
        return t.number(stored.scale), t.number(stored.zero_point)
    axis = integer(node.attributes, "axis", 0)
    arrays = [spread(floats(node.attributes, key), axis, t.shape(node.output)) for key in ("scale", "zero_point")]
    scale, zero = (t.constant(array.transpose(layout)) for array in arrays)
    return scale, zero


# Along axes.


def _softmax(t: Tensors, node: Node) -> _Lowered:
    """The greatest is taken out first, so that no exponential overflows. Of numbers side by side it is a kernel
    (`effgen.compiler.legalize`)."""
    layout = t.layout(node.inputs[0])
    (axis,) = places((integer(node.attributes, "axis", 0),), layout)
    x = t.laid(node.inputs[0], layout)
    if axis == len(layout) - 1:
        return relax.op.nn.softmax(x, axis), layout
    shifted, total = _shares(t, x, axis)
    return relax.op.divide(relax.op.exp(shifted), total), layout


def _log_softmax(t: Tensors, node: Node) -> _Lowered:
    layout = t.layout(node.inputs[0])
    (axis,) = places((integer(node.attributes, "axis", 0),), layout)
    shifted, total = _shares(t, t.laid(node.inputs[0], layout), axis)
    return relax.op.subtract(shifted, t.emit(relax.op.log(total))), layout


def _shares(t: Tensors, x: _Expr, axis: int) -> tuple[_Expr, _Expr]:
    """x less its greatest, and the sum of that's exponentials, along an axis."""
    shifted = t.emit(relax.op.subtract(x, t.emit(relax.op.max(x, axis, keepdims=True))))
    return shifted, t.emit(relax.op.sum(t.emit(relax.op.exp(shifted)), axis, keepdims=True))


def _reduction(op: Callable[..., _Expr]) -> _Lower:
    def lower(t: Tensors, node: Node) -> _Lowered:
        axes, layout = ints(node.attributes, "axes"), t.layout(node.inputs[0])
        keepdims = bool(integer(node.attributes, "keepdims", 1))
        value = op(t.laid(node.inputs[0], layout), places(axes, layout), keepdims=keepdims)
        if keepdims:
            return value, layout
        left = [axis for axis in layout if axis not in axes]
        return value, tuple(sorted(left).index(axis) for axis in left)

    return lower


def _layer_norm(t: Tensors, node: Node) -> _Lowered:
    """The axes that are normalised have to be the last ones in memory, too."""
    axis, rank = integer(node.attributes, "axis", 0), len(t.shape(node.inputs[0]))
    layout = t.layout(node.inputs[0])
    if layout[axis:] != plain(rank)[axis:]:
        layout = plain(rank)
    x, arrays = t.laid(node.inputs[0], layout), [t.weights[name] for name in node.inputs[1:]]
    scale, shift = (t.constant(array) for array in (*arrays, np.zeros_like(arrays[0]))[:2])
    if axis == rank - 1:  # rows, for which there is a kernel
        epsilon = number(node.attributes, "epsilon")
        return relax.op.nn.layer_norm(x, scale, shift, axes=[axis], epsilon=epsilon), layout
    scaled = t.emit(relax.op.multiply(_normalised(t, x, list(range(axis, rank)), node), scale))
    return relax.op.add(scaled, shift), layout


def _instance_norm(t: Tensors, node: Node) -> _Lowered:
    layout = t.layout(node.inputs[0])
    rank = len(layout)
    normal = _normalised(t, t.laid(node.inputs[0], layout), places(range(2, rank), layout), node)
    return _per_channel(t, normal, layout, *(t.weights[name] for name in node.inputs[1:])), layout


def _normalised(t: Tensors, x: _Expr, axes: Sequence[int], node: Node) -> _Expr:
    centred = t.emit(relax.op.subtract(x, t.emit(relax.op.mean(x, list(axes), keepdims=True))))
    variance = t.emit(relax.op.mean(t.emit(relax.op.multiply(centred, centred)), list(axes), keepdims=True))
    raised = t.emit(relax.op.add(variance, t.number(number(node.attributes, "epsilon"))))
    return t.emit(relax.op.multiply(centred, t.emit(relax.op.rsqrt(raised))))


def _batch_norm(t: Tensors, node: Node) -> _Lowered:
    layout = t.layout(node.inputs[0])
    return _per_channel(t, t.laid(node.inputs[0], layout), layout, *norm_arrays(t, node)), layout


def norm_arrays(t: Tensors, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """What a batch norm multiplies by and adds, a number a channel each."""
    scale, shift, mean, var = (t.weights[name].astype(np.float64) for name in node.inputs[1:])
    factor = scale / np.sqrt(var + number(node.attributes, "epsilon"))
    return factor.astype(np.float32), (shift - mean * factor).astype(np.float32)


def _per_channel(t: Tensors, x: _Expr, layout: Layout, factor: np.ndarray, summand: np.ndarray) -> _Expr:
    shape = [-1 if axis == 1 else 1 for axis in layout]
    scaled = t.emit(relax.op.multiply(x, t.constant(factor.reshape(shape))))
    return relax.op.add(scaled, t.constant(summand.reshape(shape)))


def _lrn(t: Tensors, node: Node) -> _Lowered:
    """x / (bias + alpha / size * sum of squares of neighbouring channels) ^ beta."""
    x, layout = t.images(node.inputs[0]), NHWC
    sums = window_sums(t, t.emit(relax.op.multiply(x, x)), integer(node.attributes, "size", 1))
    alpha, beta, bias = (number(node.attributes, key) for key in ("alpha", "beta", "bias"))
    scaled = t.emit(relax.op.multiply(sums, t.number(alpha / integer(node.attributes, "size", 1))))
    raised = t.emit(relax.op.power(t.emit(relax.op.add(scaled, t.number(bias))), t.number(beta)))
    return relax.op.divide(x, raised), layout


def _matmul(t: Tensors, node: Node) -> _Lowered:
    """Where all matrices on the left have one on the right, they are one of more rows."""
    (left, right), layout = (t.declared(name) for name in node.inputs), plain(len(t.shape(node.output)))
    of_left, of_right = (tuple(int(extent) for extent in value.ty.shape) for value in (left, right))
    if math.prod(of_left[:-2]) == 1 or math.prod(of_right[:-2]) > 1:
        return relax.op.matmul(left, right), layout
    rows = t.emit(relax.op.reshape(left, (math.prod(of_left[:-1]), of_left[-1])))
    flat = t.emit(relax.op.matmul(rows, t.emit(relax.op.reshape(right, of_right[-2:]))))
    return relax.op.reshape(flat, t.shape(node.output)), layout


# Images.


def _max_pool(t: Tensors, node: Node) -> _Lowered:
    pool = pool2d_of(node, t.shape(node.inputs[0]))
    image = t.images(node.inputs[0])
    return relax.op.nn.max_pool2d(image, pool.kernel, pool.stride, pool.padding, pool.dilation, layout="NHWC"), NHWC


def _resize(t: Tensors, node: Node) -> _Lowered:
    value = t.images(node.inputs[0])
    for axis in (0, 1):
        size = t.shape(node.inputs[0])[2 + axis]
        value = resized(t, value, 1 + axis, resize_taps(node.attributes, axis, size))
    return value, NHWC


# Moves.


def _concat(t: Tensors, node: Node) -> _Lowered:
    layout = t.layout(next(name for name in node.inputs if not t.is_constant(name)))
    (axis,) = places((integer(node.attributes, "axis", 1),), layout)
    return relax.op.concat([t.laid(name, layout) for name in node.inputs], axis=axis), layout


def _slice(t: Tensors, node: Node) -> _Lowered:
    layout = t.layout(node.inputs[0])
    axes, starts, ends, steps = (ints(node.attributes, key) for key in ("axes", "starts", "ends", "steps"))
    # An end of -1 would count from the back: what lies before the first element has a number below all of those.
    shape = t.shape(node.inputs[0])
    before = [end if end >= 0 else -shape[axis] - 1 for axis, end in zip(axes, ends, strict=True)]
    data = t.laid(node.inputs[0], layout)
    return relax.op.strided_slice(data, places(axes, layout), list(starts), before, list(steps)), layout


def _pad(t: Tensors, node: Node) -> _Lowered:
    layout, pads = t.layout(node.inputs[0]), ints(node.attributes, "pads")
    rank = len(layout)
    before, after = ([pads[axis + side * rank] for axis in layout] for side in (0, 1))
    value = t.laid(node.inputs[0], layout)
    return padded(t, value, before, after, text(node.attributes, "mode"), number(node.attributes, "value")), layout


def _expand(t: Tensors, node: Node) -> _Lowered:
    layout = t.layout(node.inputs[0])
    wanted = stored(ints(node.attributes, "shape"), layout)
    return relax.op.broadcast_to(t.laid(node.inputs[0], layout), wanted), layout


def _reshape(t: Tensors, node: Node) -> _Lowered:
    shape = t.shape(node.output)
    return t.shaped(t.declared(node.inputs[0]), shape), plain(len(shape))


def _transpose(t: Tensors, node: Node) -> _Lowered:
    """Nothing is moved: the same value under another layout."""
    perm, layout = ints(node.attributes, "perm"), t.layout(node.inputs[0])
    return t.laid(node.inputs[0], layout), tuple(perm.index(axis) for axis in layout)


def _shuffle(t: Tensors, node: Node) -> _Lowered:
    n, c, h, w = t.shape(node.output)
    group = integer(node.attributes, "group", 1)
    split = t.emit(relax.op.reshape(t.images(node.inputs[0]), (n, h, w, group, c // group)))
    swapped = t.emit(relax.op.permute_dims(split, (0, 1, 2, 4, 3)))
    return relax.op.reshape(swapped, (n, h, w, c)), NHWC


OPERATORS: Mapping[str, _Lower] = {
    "Abs": _of(relax.op.abs),
    "Add": _binary(relax.op.add),
    "BatchNormalization": _batch_norm,
    "Ceil": _of(relax.op.ceil),
    "Celu": _with(_celu),
    "ChannelShuffle": _shuffle,
    "Clip": _with(_clip),
    "Concat": _concat,
    "Cos": _of(relax.op.cos),
    "DequantizeLinear": _dequantize,
    "Div": _binary(relax.op.divide),
    "Elu": _with(lambda t, x, node: _elu_like(t, x, number(node.attributes, "alpha"))),
    "Erf": _of(relax.op.erf),
    "Exp": _of(relax.op.exp),
    "Expand": _expand,
    "Flatten": _reshape,
    "Floor": _of(relax.op.floor),
    "Gelu": _with(_gelu),
    "HardSigmoid": _with(_hard_sigmoid),
    "HardSwish": _unary(_hard_swish),
    "Identity": _of(lambda x: x),
    "InstanceNormalization": _instance_norm,
    "LRN": _lrn,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _with(lambda t, x, node: relax.op.nn.leakyrelu(x, number(node.attributes, "alpha"))),
    "Log": _of(relax.op.log),
    "LogSoftmax": _log_softmax,
    "MatMul": _matmul,
    "Max": _binary(relax.op.maximum),
    "MaxPool": _max_pool,
    "Min": _binary(relax.op.minimum),
    "Mish": _unary(_mish),
    "Mul": _binary(relax.op.multiply),
    "Neg": _of(relax.op.negative),
    "PRelu": _binary(_prelu),
    "Pad": _pad,
    "Pow": _binary(relax.op.power),
    "QuantizeLinear": _quantize,
    "Reciprocal": _unary(lambda t, x: relax.op.divide(t.number(1), x)),
    "ReduceMax": _reduction(relax.op.max),
    "ReduceMean": _reduction(relax.op.mean),
    "ReduceMin": _reduction(relax.op.min),
    "ReduceProd": _reduction(relax.op.prod),
    "ReduceSum": _reduction(relax.op.sum),
    "Relu": _of(relax.op.nn.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Selu": _with(_selu),
    "Sigmoid": _of(relax.op.sigmoid),
    "Sign": _of(relax.op.sign),
    "Sin": _of(relax.op.sin),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _unary(_softplus),
    "Softsign": _unary(_softsign),
    "Sqrt": _of(relax.op.sqrt),
    "Sub": _binary(relax.op.subtract),
    "Swish": _of(relax.op.nn.silu),
    "Tanh": _of(relax.op.tanh),
    "ThresholdedRelu": _with(_thresholded),
    "Transpose": _transpose,
}
