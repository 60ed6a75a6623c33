"""The fallback: right for whatever Relax legalises, and faster than no schedule where it can be."""

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import te, topi

from effgen.kernels.lowering import tvm_target
from effgen.machines.target import load_target
from effgen.schedules import schedule_operator


def softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


CASES: dict[str, tuple[tuple[int, ...], Callable[[te.Tensor], te.Tensor], Callable[[NDArray[np.float32]], object]]] = {
    "chain": ((3, 50, 48), lambda x: topi.nn.relu(topi.add(topi.negative(x), x)), lambda x: np.maximum(-x + x, 0)),
    "softmax": ((64, 1000), lambda x: topi.nn.softmax(x, -1), softmax),
    "row sums": ((2, 16, 40, 40), lambda x: topi.sum(x, axis=(2, 3)), lambda x: x.sum((2, 3))),
    "rows": ((3, 9, 40), lambda x: topi.sum(topi.multiply(x, x), axis=2), lambda x: (x * x).sum(2)),
    "largest of rows": ((900, 48), lambda x: topi.max(x, axis=1, keepdims=True), lambda x: x.max(1, keepdims=True)),
    "rows with a rest": ((5, 43), lambda x: topi.sum(x, axis=1), lambda x: x.sum(1)),
    "sum of all": ((40, 1000), lambda x: topi.sum(x), lambda x: x.sum()),
    "transpose": ((1, 64, 30, 31), lambda x: topi.transpose(x, (0, 2, 3, 1)), lambda x: x.transpose(0, 2, 3, 1)),
    **{
        f"transposition {axes} of {shape}": (
            shape,
            partial(topi.transpose, axes=axes),
            partial(np.transpose, axes=axes),
        )
        for shape, axes in (
            ((2, 13, 9, 24), (0, 3, 1, 2)),
            ((1, 16, 16, 16), (0, 3, 1, 2)),
            ((1, 7, 7, 37), (0, 3, 1, 2)),
            ((1, 50, 37), (0, 2, 1)),
            ((2, 5, 6, 8, 12), (0, 1, 2, 4, 3)),
            ((1, 6, 5, 8, 2), (0, 1, 2, 4, 3)),
            ((3, 4, 16, 5), (3, 2, 1, 0)),
            ((4, 1, 9, 20), (2, 3, 1, 0)),
            ((40, 48), (1, 0)),
        )
    },
    "transposition with arithmetic around it": (
        (1, 12, 10, 20),
        lambda x: topi.nn.relu(topi.add(topi.transpose(topi.negative(x), (0, 3, 1, 2)), te.const(1.0, "float32"))),
        lambda x: np.maximum(1 - x.transpose(0, 3, 1, 2), 0),
    ),
    "sum with what is transposed": (
        (1, 12, 12, 12),
        lambda x: topi.add(topi.transpose(x, (0, 3, 2, 1)), x),
        lambda x: x.transpose(0, 3, 2, 1) + x,
    ),
    "pad": (
        (1, 9, 9, 32),
        lambda x: topi.nn.pad(x, (0, 1, 1, 0)),
        lambda x: np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))),
    ),
    "pool": (
        (1, 8, 12, 12),
        lambda x: topi.nn.pool2d(x, (2, 2), (2, 2), (1, 1), (0, 0, 0, 0), "max"),
        lambda x: x.reshape(1, 8, 6, 2, 6, 2).max((3, 5)),
    ),
    "scalar": ((1,), lambda x: topi.add(x, x), lambda x: x + x),
}


@pytest.mark.parametrize("name", CASES)
def test_functions_without_a_workload(name: str) -> None:
    shape, define, reference = CASES[name]
    machine = load_target("cpu")
    x = te.placeholder(shape, name="x")
    func = te.create_prim_func([x, define(x)]).with_attr("global_symbol", "kernel")
    scheduled = schedule_operator(func, machine)
    assert scheduled.attrs["global_symbol"] == "kernel" and scheduled.attrs["tirx.is_scheduled"]
    library = tvm.compile(tvm.IRModule({"kernel": scheduled}), tvm_target(machine))
    data = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    expected = np.asarray(reference(data), np.float32)
    out = tvm.runtime.tensor(np.full(expected.shape, np.nan, np.float32))
    library["kernel"](tvm.runtime.tensor(data), out)
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-5, atol=1e-4)


def test_transpositions_are_done_by_tiles_of_cache_lines() -> None:
    """Innermost are 16 floats of a line that is read and 16 of one that is written."""
    x = te.placeholder((1, 112, 112, 64), name="x")
    func = te.create_prim_func([x, topi.transpose(x, (0, 3, 1, 2))])
    loops = re.findall(
        r"in T\.(?:parallel|grid|vectorized|serial|unroll)\((.*?)\)",
        schedule_operator(func, load_target("cpu")).script(),
    )
    extents = [int(extent) for loop in loops for extent in loop.split(", ")]
    assert extents[0] == 112 * 112 // 16 * 64 // 16 and np.prod(extents[1:]) == 16 * 16


def test_large_functions_are_shared_between_cores() -> None:
    x = te.placeholder((64, 112, 112, 16), name="x")
    func = te.create_prim_func([x, topi.nn.relu(topi.negative(x))])
    script = schedule_operator(func, load_target("cpu")).script()
    assert "T.parallel" in script
    assert "T.vectorized" in script
    assert script.count("T.sblock(") == 1 + 1  # the commented root and one fused block
