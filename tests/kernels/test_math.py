"""Accuracy of the vectorised activations over a dense range, and their behaviour at the ends."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import tvm
from numpy.typing import NDArray
from tvm import te
from tvm.ir import Expr

from effgen.kernels import math
from effgen.kernels.lowering import tvm_target
from effgen.kernels.math import activate
from effgen.kernels.packing import INPUT_SCALE
from effgen.kernels.workload import ACTIVATIONS, Activation
from effgen.machines.target import load_target
from effgen.schedules import schedule_operator

Function = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def compiled(of: Callable[[Expr], Expr]) -> Function:
    """A function of one expression, of every number."""

    def apply(values: NDArray[np.float32]) -> NDArray[np.float32]:
        machine, x = load_target("cpu"), te.placeholder(values.shape, name="x")
        func = te.create_prim_func([x, te.compute(values.shape, lambda i: of(x[i]))])
        scheduled = schedule_operator(func.with_attr("global_symbol", "f"), machine)
        out = tvm.runtime.tensor(np.full(values.shape, np.nan, np.float32))
        tvm.compile(tvm.IRModule({"f": scheduled}), tvm_target(machine))["f"](tvm.runtime.tensor(values), out)
        return np.asarray(out.numpy())

    return apply


@pytest.fixture(scope="module")
def run() -> Callable[[Activation], Function]:
    """A compiled activation; what it takes is scaled already, as packed parameters make it."""
    return lambda activation: compiled(lambda x: activate(x, activation))


def dense_range() -> NDArray[np.float32]:
    near = np.linspace(-20, 20, 400_000, dtype=np.float32)
    far = np.linspace(-200, 200, 112_000, dtype=np.float32)
    return np.concatenate([near, far])


def scaled(x: NDArray[np.float32], activation: Activation) -> NDArray[np.float32]:
    return x * np.float32(INPUT_SCALE[activation])


def meant(a: NDArray[np.float32], activation: Activation) -> NDArray[np.float64]:
    """The x that a scaled argument stands for: rounding it is the convolution's error, not the activation's."""
    return a.astype(np.float64) / INPUT_SCALE[activation]


def exact_sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1 + small)


def test_sigmoid_is_accurate(run: Callable[[Activation], Function]) -> None:
    a = scaled(dense_range(), "sigmoid")
    exact = exact_sigmoid(meant(a, "sigmoid"))
    error = np.abs(run("sigmoid")(a) - exact)
    assert error.max() <= 1.5e-7
    assert (error <= 3e-7 * exact + 1e-18).all()


def test_silu_is_accurate(run: Callable[[Activation], Function]) -> None:
    a = scaled(dense_range(), "silu")
    x = meant(a, "silu")
    exact = x * exact_sigmoid(x)
    error = np.abs(run("silu")(a) - exact)
    assert (error <= 3e-7 * np.abs(exact) + 4e-17).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_goes_through(run: Callable[[Activation], Function], activation: Activation) -> None:
    payloads = np.array([0x7FC00000, 0x7FFFFFFF, 0xFFC00001, 0x7FC001FF], np.uint32).view(np.float32)
    assert np.isnan(run(activation)(np.tile(payloads, 8))).all()


def test_ends_saturate(run: Callable[[Activation], Function]) -> None:
    tail = [1e30, -1e30, 88, -88, 1e4, -1e4, 0, -0.0, 1e-40, -1e-40, 127, -127, 500, -500]
    x = np.array([np.inf, -np.inf, *tail], np.float32)
    sigmoid = exact_sigmoid(x.astype(np.float64))
    np.testing.assert_allclose(run("sigmoid")(scaled(x, "sigmoid")), sigmoid, atol=1e-7, rtol=0)
    silu = run("silu")(scaled(x, "silu"))
    assert silu[0] == np.inf
    np.testing.assert_allclose(silu[2:], x[2:] * sigmoid[2:], atol=4e-17, rtol=1e-6)
    assert silu[1] == pytest.approx(0, abs=4e-17)


@pytest.mark.parametrize("activation", ["sigmoid", "silu"])
def test_far_below_zero_they_are_not_nearly_denormal(
    run: Callable[[Activation], Function], activation: Activation
) -> None:
    """A product of two such values is a normal number: processors take many times as long for others."""
    x = -np.geomspace(1, 1e30, 1000, dtype=np.float32)
    assert np.square(run(activation)(scaled(x, activation))).min() > np.finfo(np.float32).tiny


def test_half_at_zero(run: Callable[[Activation], Function]) -> None:
    assert (run("sigmoid")(np.zeros(16, np.float32)) == 0.5).all()


def test_activations_that_are_not_scaled(run: Callable[[Activation], Function]) -> None:
    x = np.linspace(-8, 8, 1601, dtype=np.float32)
    hard = np.clip(x.astype(np.float64) + 3, 0, 6) / 6
    exact = {"relu": np.maximum(x, 0), "relu6": np.clip(x, 0, 6), "hard_sigmoid": hard, "hard_swish": x * hard}
    for activation, expected in exact.items():
        assert activation not in INPUT_SCALE
        np.testing.assert_allclose(run(activation)(x), expected, rtol=3e-7, atol=3e-7)  # type: ignore[arg-type]


def wide_range() -> NDArray[np.float32]:
    """With fresh values, and the ends of the pieces that functions are made of."""
    fresh = np.random.default_rng().standard_normal(64_000, dtype=np.float32) * 3
    return np.concatenate([dense_range(), fresh, np.float32([1, -1, 4, -4, 0.625, -0.625, 6.5, -6.5])])


def by_torch(of: Callable[[torch.Tensor], torch.Tensor], x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(of(torch.from_numpy(x).double()))


functional = torch.nn.functional
FUNCTIONS: dict[str, tuple[Callable[[Expr], Expr], Callable[[torch.Tensor], torch.Tensor]]] = {
    "erf": (math.erf, torch.erf),
    "tanh": (math.tanh, torch.tanh),
    "gelu": (math.gelu, functional.gelu),
    "gelu_tanh": (math.gelu_tanh, lambda x: functional.gelu(x, approximate="tanh")),
    "softplus": (math.softplus, functional.softplus),
    "mish": (math.mish, functional.mish),
    "elu": (lambda x: math.elu(x, 1.0), functional.elu),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_accurate(name: str) -> None:
    of, exact = FUNCTIONS[name]
    x = wide_range()
    np.testing.assert_allclose(compiled(of)(x), by_torch(exact, x), rtol=2e-7, atol=2e-7)


def test_exp_is_accurate_to_its_own_size() -> None:
    x = np.clip(wide_range(), -86.9, 88.7)
    np.testing.assert_allclose(compiled(math.exp)(x), by_torch(torch.exp, x), rtol=3e-7)


@pytest.mark.parametrize(
    ("of", "low", "high"),
    [(math.erf, -1, 1), (math.tanh, -1, 1), (math.exp, 0, np.inf), (math.softplus, 0, np.inf), (math.gelu, 0, np.inf)],
)
def test_ends_of_functions(of: Callable[[Expr], Expr], low: float, high: float) -> None:
    found = compiled(of)(np.tile(np.float32([-np.inf, -3e38, -200, np.inf, np.nan]), 8))[:5]
    np.testing.assert_allclose(found[:3], low, atol=1e-9)
    assert found[3] == high and np.isnan(found[4])
