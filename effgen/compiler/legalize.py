"""Relax operators that no kernel of ours computes, lowered for CPUs in another way than TVM's own.

Element by element they are the vectorised arithmetic of `effgen.kernels.math`: TVM's call the C library for every
number, which takes ten times as long. Rows that are normalised are `effgen.kernels.rows`, products of two matrices that
are both computed `effgen.kernels.products`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import prod

from tvm import relax, te
from tvm.ir import Expr
from tvm.tirx import PrimFunc

from effgen.kernels import math
from effgen.kernels.packing import INPUT_SCALE
from effgen.kernels.products import product_primfunc
from effgen.kernels.rows import Rows, layer_norm_primfunc, log_softmax_primfunc, softmax_primfunc
from effgen.kernels.workload import Activation
from effgen.machines.machine import Cpu, Machine
from effgen.schedules.common import worth_a_launch

#: How LegalizeOps is told to lower one operator.
Lower = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]

# Operations of a processor for a number of a row, about: they count as multiply-adds do.
_ROW_WORK = 30


def lowered_by_us(machine: Machine) -> Mapping[str, Lower]:
    """By operator's name: what LegalizeOps takes. Nothing for a GPU, which has units for exponentials."""
    if not isinstance(machine, Cpu):
        return {}
    return {
        **{name: partial(_elementwise, of) for name, of in _ELEMENTWISE.items()},
        "relax.nn.softplus": _softplus,
        "relax.nn.softmax": partial(_rows_of_one, machine, softmax_primfunc),
        "relax.nn.log_softmax": partial(_rows_of_one, machine, log_softmax_primfunc),
        "relax.nn.layer_norm": partial(_layer_norm, machine),
        "relax.matmul": partial(_matmul, machine),
    }


def _scaled(activation: Activation) -> Callable[[Expr], Expr]:
    """An activation of the argument itself: what makes the scaled one is part of it here."""
    return lambda x: math.activate(x * math.constant(INPUT_SCALE[activation]), activation)


_ELEMENTWISE: Mapping[str, Callable[[Expr], Expr]] = {
    "relax.exp": math.exp,
    "relax.erf": math.erf,
    "relax.round": math.rounded,  # of codes, which are clipped before
    "relax.tanh": math.tanh,
    "relax.sigmoid": _scaled("sigmoid"),
    "relax.nn.silu": _scaled("silu"),
    "relax.nn.gelu": math.gelu,
    "relax.nn.gelu_tanh": math.gelu_tanh,
}


def elementwise(builder: relax.BlockBuilder, of: Callable[[Expr], Expr], value: relax.Expr, name: str) -> relax.Expr:
    """`of` (a function of one float32 expression) of every number of `value`: a call of a function of that name."""
    return builder.call_te(lambda x: te.compute(x.shape, lambda *place: of(x[place])), value, primfunc_name_hint=name)


def _elementwise(of: Callable[[Expr], Expr], builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    return elementwise(builder, of, call.args[0], call.op.name.rpartition(".")[2])


def _softplus(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    beta = float(call.attrs.beta)

    def of(x: Expr) -> Expr:
        return math.softplus(x * math.constant(beta)) * math.constant(1 / beta)

    return elementwise(builder, math.softplus if beta == 1 else of, call.args[0], "softplus")


def _rows_of_one(
    machine: Cpu, kernel: Callable[[Rows], PrimFunc], builder: relax.BlockBuilder, call: relax.Call
) -> relax.Expr:
    """Along the last axis; along another one it is TVM's."""
    rank = len(call.ty.shape)
    if int(call.attrs.axis) % rank != rank - 1:
        return _as_tvm(builder, call)
    return _call(builder, kernel(_rows(call, machine)), call)


def _layer_norm(machine: Cpu, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    rank, axes = len(call.ty.shape), [int(axis) for axis in call.attrs.axes]
    if [axis % rank for axis in axes] != [rank - 1] or not (call.attrs.center and call.attrs.scale):
        return _as_tvm(builder, call)
    return _call(builder, layer_norm_primfunc(_rows(call, machine), float(call.attrs.epsilon)), call)


def _matmul(machine: Cpu, builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Where each matrix has one of its own to be multiplied by; where one is for several it is TVM's."""
    left, right = (tuple(int(extent) for extent in argument.ty.shape) for argument in call.args)
    if len(left) < 2 or len(right) < 2 or left[:-2] != right[:-2]:
        return _as_tvm(builder, call)
    rows, depth = left[-2:]
    return _call(builder, product_primfunc(left[:-2], rows, depth, right[-1], machine), call)


def _rows(call: relax.Call, machine: Cpu) -> Rows:
    shape = tuple(int(extent) for extent in call.ty.shape)
    size = prod(shape)
    return Rows.of(shape, machine, worth_a_launch(machine, _ROW_WORK * size, 8 * size))


def _call(builder: relax.BlockBuilder, func: PrimFunc, call: relax.Call) -> relax.Expr:
    # Opaque to FuseOps: it is finished, nothing may be fused into it.
    made = builder.add_func(func.with_attr("op_pattern", 8), call.op.name.rpartition(".")[2])
    return relax.call_tir(made, list(call.args), call.ty)


def _as_tvm(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    lower: Lower = call.op.get_attr("FLegalize")
    return lower(builder, call)
