"""What a function of TVM's computes, in float64 by numpy: the definition that candidates of it are judged by.

It knows what TVM makes of operators before anything is scheduled: one nest of loops after the other, each around a
block. Places run side by side in numpy, sums and the like one step after the other. What is a matter of float32's bits
(`effgen.kernels.math`) stays one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir.stmt import SBlockRealize
from tvm.tirx import Buffer, IterVar, PrimFunc, Stmt

from effgen.kernels.reference import erf_of
from effgen.kernels.workload import Float64

_Value: TypeAlias = Any  # an array or a number
_Variables: TypeAlias = dict[Any, _Value]


class UnknownTirError(Exception):
    """A function holds what is not known here."""


@dataclass(frozen=True)
class Nest:
    """Loops around one block: its variables with their extents, and which of them are reduced over."""

    variables: tuple[Any, ...]
    extents: tuple[int, ...]
    reduced: tuple[bool, ...]
    block: Any

    @property
    def written(self) -> list[Buffer]:
        return [region.source for region in self.block.writes]


def statements(function: PrimFunc) -> list[Nest]:
    """The nests of a function, in order. Raises UnknownTirError for anything else."""
    body = function.body
    if isinstance(body, SBlockRealize):
        body = body.block.body
    return [_nest(part) for part in (body.seq if isinstance(body, tirx.SeqStmt) else [body])]


def _nest(statement: Stmt) -> Nest:
    loops = []
    while isinstance(statement, tirx.For):
        if not isinstance(statement.extent, tirx.IntImm) or int(statement.min) != 0:
            raise UnknownTirError("a loop of unknown extent")
        loops.append(statement)
        statement = statement.body
    if not isinstance(statement, SBlockRealize) or not _is_true(statement.predicate):
        raise UnknownTirError("loops around other than a block")
    block, values = statement.block, list(statement.iter_values)
    own = [any(loop.loop_var.same_as(value) for loop in loops) or _is_zero(value) for value in values]
    if not all(own) or block.alloc_buffers:
        raise UnknownTirError("a block that is scheduled")
    extents = tuple(int(variable.dom.extent) for variable in block.iter_vars)
    reduced = tuple(variable.iter_type != IterVar.DataPar for variable in block.iter_vars)
    return Nest(tuple(variable.var for variable in block.iter_vars), extents, reduced, block)


def _is_true(expression: Expr) -> bool:
    return isinstance(expression, tirx.IntImm) and int(expression) == 1


def _is_zero(expression: Expr) -> bool:
    return isinstance(expression, tirx.IntImm) and int(expression) == 0


def evaluated(function: PrimFunc, inputs: Sequence[Float64]) -> list[Float64]:
    """The outputs, which stand behind the inputs among the arguments. Raises UnknownTirError."""
    arguments = list(function.params)
    arrays: dict[Any, NDArray[Any]] = dict(zip(arguments, inputs, strict=False))
    for nest in statements(function):
        with np.errstate(all="ignore"):  # what is computed where it does not count, beyond an image say
            _run(nest, arrays)
    return [arrays[buffer] for buffer in arguments[len(inputs) :]]


def _run(nest: Nest, arrays: dict[Any, NDArray[Any]]) -> None:
    for buffer in nest.written:
        if buffer not in arrays:
            dtype = np.float64 if str(buffer.dtype).startswith("float") else np.dtype(str(buffer.dtype))
            nothing = np.nan if dtype == np.float64 else 0  # lest a place be left out
            arrays[buffer] = np.full([int(extent) for extent in buffer.shape], nothing, dtype)
    places = [index for index, reduced in enumerate(nest.reduced) if not reduced]
    steps = [index for index, reduced in enumerate(nest.reduced) if reduced]
    shape = [nest.extents[index] for index in places]
    variables: _Variables = {
        nest.variables[index]: np.arange(nest.extents[index]).reshape([-1] + [1] * (len(places) - number - 1))
        for number, index in enumerate(places)
    }
    if nest.block.init is not None:
        _carry_out(nest.block.init, variables, arrays, shape)
    for numbers in product(*(range(nest.extents[index]) for index in steps)):
        variables.update(zip((nest.variables[index] for index in steps), numbers, strict=True))
        _carry_out(nest.block.body, variables, arrays, shape)


def _carry_out(statement: Stmt, variables: _Variables, arrays: dict[Any, NDArray[Any]], shape: list[int]) -> None:
    if isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            _carry_out(part, variables, arrays, shape)
        return
    if not isinstance(statement, tirx.BufferStore):
        raise UnknownTirError(type(statement).__name__)
    evaluator = _Evaluator(variables, arrays)
    place = tuple(np.broadcast_to(evaluator(index), shape) for index in statement.indices)
    arrays[statement.buffer][place] = np.broadcast_to(evaluator(statement.value), shape)


class _Evaluator:
    """Values of expressions, at all places side by side."""

    def __init__(self, variables: Mapping[Any, _Value], arrays: Mapping[Any, NDArray[Any]]) -> None:
        self._variables, self._arrays = dict(variables), arrays

    def __call__(self, expression: Any) -> _Value:
        kind = type(expression).__name__
        if kind in _BINARY:
            return _BINARY[kind](self(expression.a), self(expression.b))
        match kind:
            case "IntImm":
                return int(expression.value)
            case "FloatImm":
                return float(expression.value)
            case "Var":
                return self._variables[expression]
            case "Not":
                return np.logical_not(self(expression.a))
            case "Cast":
                return _cast(self(expression.value), expression)
            case "Select":
                chosen = expression.condition, expression.true_value, expression.false_value
                return np.where(*map(self, chosen))
            case "Let":
                self._variables[expression.var] = self(expression.value)
                return self(expression.body)
            case "TensorLoad":
                return self._loaded(expression)
            case "Call":
                return self._called(expression)
        raise UnknownTirError(kind)

    def _loaded(self, expression: Any) -> _Value:
        array = self._arrays[expression.source]
        places = (self(index) for index in expression.indices)
        # What lies beyond the array is never chosen.
        return array[tuple(np.clip(place, 0, size - 1) for place, size in zip(places, array.shape, strict=True))]

    def _called(self, expression: Any) -> _Value:
        name = expression.op.name.rpartition(".")[2]
        values = [self(argument) for argument in expression.args]
        if name == "reinterpret":
            return _bits(values[0], expression)
        if name not in _FUNCTIONS:
            raise UnknownTirError(name)
        return _FUNCTIONS[name](*values)


def _cast(value: _Value, expression: Any) -> _Value:
    dtype = _dtype(expression)
    return np.asarray(value).astype(np.float64 if dtype.startswith("float") else dtype)


def _bits(value: _Value, expression: Any) -> _Value:
    if _dtype(expression) == "int32":
        return np.asarray(value, np.float32).view(np.int32)
    if _dtype(expression) == "float32":
        return np.asarray(value).astype(np.int32).view(np.float32).astype(np.float64)
    raise UnknownTirError("reinterpret")


def _dtype(expression: Any) -> str:
    return str(expression.ty)


_BINARY: dict[str, Callable[[_Value, _Value], _Value]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.true_divide,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "Min": np.minimum,
    "Max": np.maximum,
    "EQ": np.equal,
    "NE": np.not_equal,
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "LShift": np.left_shift,
    "RShift": np.right_shift,
}
_FUNCTIONS: dict[str, Callable[..., _Value]] = {
    "if_then_else": np.where,
    "shift_left": np.left_shift,
    "shift_right": np.right_shift,
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "log2": np.log2,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "erf": erf_of,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "pow": np.power,
    "fabs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "nearbyint": np.round,
    "trunc": np.trunc,
}
