"""Pointwise convolutions: every way in which rows and channels can fail to be a whole number of tiles."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effgen.kernels.workload import Conv2d
from effgen.schedules.pointwise import default_pointwise
from effgen.target import Machine, load_target

Check = Callable[[Conv2d, Machine, str], None]


@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 14, 14, 80, 480, activation="silu"),
        Conv2d(1, 7, 7, 192, 320),
        Conv2d(1, 7, 7, 96, 192, residual=True),
        Conv2d(1, 37, 37, 24, 40, activation="relu6"),  # 1369 rows: a square of a prime
        Conv2d(3, 5, 7, 16, 24, activation="silu", residual=True),  # three images, lanes of a half register
        Conv2d(2, 3, 1, 5, 13, activation="hard_swish"),  # padded channels, fewer rows than a tile
        Conv2d(1, 1, 2, 1, 1, activation="sigmoid"),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "rule:pointwise")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 3),
    height=st.integers(2, 23),
    width=st.integers(1, 23),
    depth=st.integers(1, 40),
    channels=st.integers(1, 70),
    residual=st.booleans(),
)
def test_any_shape(
    batch: int, height: int, width: int, depth: int, channels: int, residual: bool, check_kernel: Check
) -> None:
    workload = Conv2d(batch, height, width, depth, channels, activation="silu", residual=residual)
    check_kernel(workload, load_target("cpu"), "rule:pointwise")


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_weights_are_cut_to_the_cache(cores: int) -> None:
    from dataclasses import replace

    machine = replace(load_target("x86-64-v4"), cores=cores)
    decisions = default_pointwise(Conv2d(1, 75, 75, 640, 3840), machine)
    assert decisions.chunk * decisions.vectors * 16 * 640 * 4 <= machine.l2_bytes // 2
    assert decisions.rows * decisions.vectors < machine.vector_registers
