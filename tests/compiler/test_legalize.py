"""Operators left to TVM, lowered by us: against PyTorch, along the last axis and others, with rests and without."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import tvm
from tvm import relax

from effgen.compiler.legalize import elementwise, lowered_by_us
from effgen.compiler.pipeline import legalize_rest
from effgen.kernels import math
from effgen.kernels.lowering import PIPELINE, tvm_target
from effgen.machines.target import load_target
from effgen.schedules import schedule_operator

Shape = tuple[int, ...]
IMAGE = (2, 5, 3, 24)
functional = torch.nn.functional


def check(
    op: Callable[..., relax.Expr], exact: Callable[..., torch.Tensor], *shapes: Shape, tolerance: float = 1e-6
) -> tvm.IRModule:
    """Compile the operator as the compiler would, and compare on fresh numbers around 2; gives the module."""
    builder, machine = relax.BlockBuilder(), load_target("cpu")
    variables = [relax.Var(f"x{index}", relax.TensorType(shape, "float32")) for index, shape in enumerate(shapes)]
    with builder.function("main", variables):
        with builder.dataflow():
            output = builder.emit_output(builder.emit(op(*variables)))
        builder.emit_func_output(output)
    with tvm_target(machine):
        mod = legalize_rest(builder.finalize(), lowered_by_us(machine))
        for var, func in mod.functions_items():
            if isinstance(func, tvm.tirx.PrimFunc) and "tirx.is_scheduled" not in func.attrs:
                mod[var] = schedule_operator(func, machine)
    runner = relax.VirtualMachine(relax.build(mod, tvm_target(machine), tir_pipeline=PIPELINE), tvm.cpu())
    generator = np.random.default_rng()
    arrays = [generator.standard_normal(shape, dtype=np.float32) * 3 + 2 for shape in shapes]
    found = runner["main"](*map(tvm.runtime.tensor, arrays)).numpy()
    right = exact(*(torch.from_numpy(array).double() for array in arrays)).numpy()
    np.testing.assert_allclose(found, right, rtol=1e-6, atol=tolerance)
    return mod


@pytest.mark.parametrize(
    ("op", "exact"),
    [
        (relax.op.exp, torch.exp),
        (relax.op.round, torch.round),
        (relax.op.erf, torch.erf),
        (relax.op.tanh, torch.tanh),
        (relax.op.sigmoid, torch.sigmoid),
        (relax.op.nn.silu, functional.silu),
        (relax.op.nn.gelu, functional.gelu),
        (relax.op.nn.gelu_tanh, lambda x: functional.gelu(x, approximate="tanh")),
        (relax.op.nn.softplus, functional.softplus),
        (lambda x: relax.op.nn.softplus(x, beta=2.0), lambda x: functional.softplus(x, beta=2)),
    ],
)
def test_elementwise(op: Callable[..., relax.Expr], exact: Callable[..., torch.Tensor]) -> None:
    check(op, exact, IMAGE)


@pytest.mark.parametrize("shape", [(3, 7, 43), (1, 1000), (5, 3), (2, 3, 4, 16), (300, 1)])
@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax(shape: Shape, logarithm: bool) -> None:
    op, exact = (
        (relax.op.nn.log_softmax, functional.log_softmax) if logarithm else (relax.op.nn.softmax, functional.softmax)
    )
    check(lambda x: op(x, -1), lambda x: exact(x, -1), shape)


def test_along_another_axis() -> None:
    check(lambda x: relax.op.nn.softmax(x, 1), lambda x: functional.softmax(x, 1), (3, 7, 5))
    shapes = ((3, 7, 5), (7, 5), (7, 5))
    check(
        lambda x, scale, shift: relax.op.nn.layer_norm(x, scale, shift, axes=[-2, -1], epsilon=1e-3),
        lambda x, scale, shift: functional.layer_norm(x, (7, 5), scale, shift, 1e-3),
        *shapes,
        tolerance=1e-5,
    )


@pytest.mark.parametrize("channels", [96, 43, 3])
def test_layer_norm(channels: int) -> None:
    check(
        lambda x, scale, shift: relax.op.nn.layer_norm(x, scale, shift, axes=[-1], epsilon=1e-3),
        lambda x, scale, shift: functional.layer_norm(x, (channels,), scale, shift, 1e-3),
        (2, 3, 5, channels),
        (channels,),
        (channels,),
        tolerance=5e-5,  # the numbers of a short row may be close to each other
    )


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 49, 16), (2, 3, 16, 49)),
        ((5, 7), (7, 3)),
        ((4, 1, 40), (4, 40, 100)),
        ((3, 30, 1), (3, 1, 8)),
        ((2, 3, 9, 8), (8, 10)),
    ],
)
def test_products_of_matrices(left: Shape, right: Shape) -> None:
    """The last one is one matrix for several."""
    check(relax.op.matmul, torch.matmul, left, right, tolerance=1e-4)


def test_a_large_mean_takes_nothing_from_the_variance() -> None:
    """Float32's mean of squares less the squared mean would leave no digit of it."""

    def far(x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x.float().add(4000.0).double(), (64,), eps=1e-3)

    def op(x: relax.Expr) -> relax.Expr:
        ones, zeros = relax.const(np.ones(64, np.float32)), relax.const(np.zeros(64, np.float32))
        return relax.op.nn.layer_norm(relax.op.add(x, relax.const(np.float32(4000))), ones, zeros, [-1], 1e-3)

    check(op, far, (4, 64), tolerance=1e-3)


def test_large_rows_are_shared_between_cores_and_others_are_fused() -> None:
    mod = check(lambda x: relax.op.nn.softmax(x, -1), lambda x: functional.softmax(x, -1), (64, 10, 196))
    assert "T.parallel" in mod.script()
    mod = check(lambda x: relax.op.multiply(relax.op.nn.gelu(x), x), lambda x: functional.gelu(x) * x, (64, 10, 200))
    assert len([func for func in mod.functions.values() if isinstance(func, tvm.tirx.PrimFunc)]) == 1


def test_a_function_of_ours_of_every_number() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(IMAGE, "float32"))
    with builder.function("main", [x]):
        made = builder.emit(elementwise(builder, math.mish, x, "mish"))
        assert tuple(int(extent) for extent in made.ty.shape) == IMAGE
        builder.emit_func_output(made)
    assert "mish" in builder.finalize().script()


def test_nothing_of_it_for_a_gpu() -> None:
    assert lowered_by_us(load_target("cuda-sm90")) == {}
