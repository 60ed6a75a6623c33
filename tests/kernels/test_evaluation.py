"""Functions of TVM's evaluated by numpy: beside what numpy itself makes of the same operators."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import te, tirx, topi

from effgen.kernels import math
from effgen.kernels.evaluation import UnknownTirError, evaluated, statements
from effgen.kernels.operator import operator_of
from effgen.schedules.common import schedule_of

Array = NDArray[Any]


def each(of: Callable[[Any], Any]) -> Callable[[te.Tensor], te.Tensor]:
    return lambda x: te.compute(x.shape, lambda *place: of(x[place]), "each")


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


CASES: dict[str, tuple[Callable[[te.Tensor], te.Tensor], Callable[[Array], Array]]] = {
    "softmax": (lambda x: topi.nn.softmax(x, -1), softmax),
    "sum": (lambda x: topi.sum(x, axis=(1, 3)), lambda x: x.sum((1, 3))),
    "largest": (lambda x: topi.max(x, axis=2, keepdims=True), lambda x: x.max(2, keepdims=True)),
    "transposition": (lambda x: topi.transpose(x, (0, 3, 1, 2)), lambda x: x.transpose(0, 3, 1, 2)),
    "pad": (
        lambda x: topi.nn.pad(x, (0, 1, 2, 0), (0, 0, 1, 3)),
        lambda x: np.pad(x, ((0, 0), (1, 0), (2, 1), (0, 3))),
    ),
    "exp by bits": (each(math.exp), np.exp),
    "tanh by bits": (each(math.tanh), np.tanh),
    "mish by bits": (each(math.mish), lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "tanh": (topi.tanh, np.tanh),
    "whole": (lambda x: topi.cast(topi.cast(topi.floor(x), "int32"), "float32"), np.floor),
}


@pytest.mark.parametrize("case", CASES)
def test_as_numpy(case: str) -> None:
    ours, theirs = CASES[case]
    x = te.placeholder((2, 3, 5, 4), name="x")
    function = te.create_prim_func([x, ours(x)])
    data = np.random.default_rng().standard_normal((2, 3, 5, 4))
    # Polynomials of float32's accuracy where bits are made; else it is float64.
    limit = 1e-6 if "bits" in case else 1e-14
    (found,), expected = evaluated(function, [data]), theirs(data)
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= limit * np.linalg.norm(expected)


def test_unknown_functions_are_no_workloads() -> None:
    x = te.placeholder((4, 6), name="x")
    function = te.create_prim_func([x, topi.nn.relu(x)])
    assert operator_of(function, "relu") is not None
    scheduled = schedule_of(function)
    scheduled.split(scheduled.get_loops(scheduled.get_sblock("compute"))[0], [2, 2])
    assert operator_of(scheduled.mod["main"], "relu") is None
    assert operator_of(te.create_prim_func([x, topi.reshape(x, (3, 8))]), "reshape") is None
    whole = te.placeholder((4, 6), "int32", name="x")
    assert operator_of(te.create_prim_func([whole, topi.add(whole, whole)]), "add") is None
    size = tirx.Var("n", "int32")
    some = te.placeholder((size, 6), name="x")
    assert operator_of(te.create_prim_func([some, topi.nn.relu(some)]), "relu") is None
    strange = te.create_prim_func([x, te.compute((4, 6), lambda i, j: tirx.call_pure_extern("float32", "f", x[i, j]))])
    with pytest.raises(UnknownTirError):
        evaluated(strange, [np.ones((4, 6))])
    assert len(statements(strange)) == 1


def test_names_say_what_is_computed() -> None:
    def name(size: int, argument: str, called: str, of: Callable[[te.Tensor], te.Tensor] = topi.nn.relu) -> str:
        x = te.placeholder((size, 6), name=argument)
        operator = operator_of(te.create_prim_func([x, of(x)]), called)
        assert operator is not None and tvm.ir.load_json(operator.text)
        return operator.name

    assert name(4, "x", "relu7") == name(4, "y", "relu12")
    assert len({name(4, "x", "relu"), name(5, "x", "relu"), name(4, "x", "relu", topi.negative)}) == 3
    # In other processes too: networks share what was found.
    assert name(4, "x", "relu") == "relu_cbe14794d8145eed"
