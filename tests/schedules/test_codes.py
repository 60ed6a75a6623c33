"""Matrix products of whole-number codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
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


@pytest.mark.parametrize("code_type", [None, "uint8"])
@pytest.mark.parametrize(
    ("expand", "depthwise"),
    [
        (Conv2d(1, 14, 14, 40, 240, activation="silu", dtype="uint8"), Conv2d(1, 14, 14, 240, 240, (5, 5), (2, 2), (2, 2, 2, 2), groups=240, activation="silu", row_sums=True)),
        (Conv2d(1, 9, 7, 16, 96, activation="relu6", dtype="uint8"), Conv2d(1, 9, 7, 96, 96, (3, 3), padding=(1, 1, 1, 1), groups=96, activation="relu6")),
        (Conv2d(2, 5, 5, 4, 13, dtype="uint8"), Conv2d(2, 5, 5, 13, 13, (3, 3), padding=(1, 1, 1, 1), groups=13)),
        (Conv2d(1, 20, 21, 3, 16, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW", activation="relu6"), Conv2d(1, 10, 11, 16, 16, (3, 3), padding=(1, 1, 1, 1), groups=16, activation="relu6")),
    ],
    ids=lambda workload: workload.name,
)  # fmt: skip
def test_expanded_by_codes(
    expand: Conv2d, depthwise: Conv2d, code_type: str | None, machine: Machine, check_kernel: Check
) -> None:
    if expand.multiplies_codes and (machine.dot is None or machine.dot.codes != expand.dtype):
        pytest.skip("multiplies no such codes")
    check_kernel(ExpandDepthwise(expand, replace(depthwise, code_type=code_type)), machine, "depthwise")


def test_depthwise_convolutions_make_codes(machine: Machine, check_kernel: Check) -> None:
    workload = Conv2d(1, 9, 7, 40, 40, (3, 3), padding=(1, 1, 1, 1), groups=40, activation="relu", code_type="uint8")
    check_kernel(workload, machine, "depthwise")
    check_kernel(replace(workload, code_type="int8", row_sums=True), machine, "depthwise")
