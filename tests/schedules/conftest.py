"""Kernels against float64 references: fresh random inputs, and outputs poisoned before the run."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from kernel_cases import case
from numpy.typing import NDArray

from effgen.kernels.lowering import PIPELINE, tvm_target
from effgen.kernels.workload import CODE_TYPES, Argument, Workload
from effgen.machines.machine import Machine
from effgen.machines.processor import missing_features
from effgen.machines.target import load_target
from effgen.schedules import kernel_from_workload, space_of
from effgen.schedules.space import Decisions


def check(
    workload: Workload, machine: Machine, source: str, decisions: Decisions | None = None, tolerance: float = 2e-5
) -> None:
    """Outputs are about 1 and held to `tolerance`; the sums of rows are larger, and held to their share of it."""
    space = space_of(workload, machine)
    assert space is not None and space.rule == source
    func = kernel_from_workload(workload, machine, decisions)
    assert func.attrs["global_symbol"] == workload.name
    assert func.attrs["tirx.is_scheduled"]
    library = tvm.compile(tvm.IRModule({workload.name: func}), tvm_target(machine), tir_pipeline=PIPELINE)
    inputs, expected = case(workload, machine)
    outputs = [tvm.runtime.tensor(poisoned(output)) for output in workload.outputs]
    library[workload.name](*map(tvm.runtime.tensor, inputs.values()), *outputs)
    note = f"{workload.name} {decisions or ''}"
    for index, (found, right) in enumerate(zip(outputs, expected, strict=True)):
        if workload.outputs[index].dtype in CODE_TYPES:
            check_codes(found.numpy(), right, note)
            continue
        scale = max(1.0, float(np.abs(right).max())) if index else 1.0
        np.testing.assert_allclose(found.numpy(), right, rtol=0, atol=tolerance * scale, err_msg=note)


def poisoned(output: Argument) -> NDArray[Any]:
    """Codes have no NaN: the greatest one is what random outputs seldom are."""
    return np.full(output.shape, np.nan if output.dtype == "float32" else CODE_TYPES[output.dtype][1], output.dtype)


def check_codes(found: NDArray[Any], right: NDArray[np.float64], note: str) -> None:
    """A number that float32 computes near a tie may be rounded to its other side, seldom."""
    difference = np.abs(found.astype(np.float64) - right)
    assert difference.max() <= 1 and np.mean(difference > 0) <= 0.002, note


def check_some(workload: Workload, machine: Machine, count: int) -> None:
    """`check` with so many points of the workload's schedule space, the same ones every time."""
    space = space_of(workload, machine)
    assert space is not None
    points = list(space.points())
    chosen = random.Random(zlib.crc32(f"{workload.name} {machine.lanes}".encode())).sample(
        points, min(count, len(points))
    )
    for decisions in chosen:
        assert space.contains(decisions)
        check(workload, machine, space.rule, decisions)


@pytest.fixture(scope="session", params=["cpu", "x86-64-v3", "x86-64-v4"])
def machine(request: pytest.FixtureRequest) -> Machine:
    found = load_target(request.param)
    if missing := missing_features(found.features):
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    return found


@pytest.fixture(scope="session")
def check_kernel() -> Callable[..., None]:
    """Schedule, compile, run and compare one workload; the third argument is the rule its schedule must come from."""
    return check


@pytest.fixture(scope="session")
def check_points() -> Callable[[Workload, Machine, int], None]:
    """The same for some points of the workload's schedule space."""
    return check_some
