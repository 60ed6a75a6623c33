"""Matrix products of whole-number codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.machines.machine import Machine

Check = Callable[..., None]


@pytest.mark.parametrize("code_type", [None, "uint8"])
@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 14, 14, 80, 480, activation="silu", dtype="uint8"),
        Conv2d(1, 7, 7, 192, 320, dtype="uint8"),
        Conv2d(1, 7, 7, 96, 192, residual=True, dtype="uint8"),
        Conv2d(3, 5, 7, 16, 24, activation="silu", residual=True, dtype="uint8"),
        Conv2d(2, 3, 1, 4, 13, activation="hard_swish", dtype="uint8"),
        Conv2d(1, 5, 3, 44, 70, activation="relu", residual=True, activation_last=True, dtype="uint8"),
        Conv2d(1, 1, 1, 320, 1000, dtype="uint8"),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Conv2d, code_type: str | None, machine: Machine, check_kernel: Check) -> None:
    if machine.dot is None or machine.dot.codes != workload.dtype:
        pytest.skip("multiplies no such codes")
    check_kernel(replace(workload, code_type=code_type), machine, "pointwise")
