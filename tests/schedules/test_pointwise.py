"""Pointwise and dense layers: every way in which rows and channels can fail to be a whole number of tiles."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.tiles import blocks
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.schedules import space_of
from effgen.schedules.space import Decisions

Check = Callable[[Conv2d, Machine, str], None]


@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 14, 14, 80, 480, activation="silu"),
        Conv2d(1, 7, 7, 192, 320),
        Conv2d(1, 7, 7, 96, 192, residual=True),
        Conv2d(1, 37, 37, 24, 40, activation="relu6"),  # 1369 rows: a square of a prime
        Conv2d(3, 5, 7, 16, 24, activation="silu", residual=True),  # three images, lanes of a half register
        Conv2d(2, 7, 5, 16, 24, activation="relu", residual=True, activation_last=True),
        Conv2d(1, 5, 5, 17, 3, activation="silu", residual=True, activation_last=True),
        Conv2d(2, 3, 1, 5, 13, activation="hard_swish"),  # padded channels, fewer rows than a tile
        Conv2d(1, 1, 2, 1, 1, activation="sigmoid"),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "pointwise")


@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 14, 14, 96, 24, gated=True),
        Conv2d(1, 7, 7, 144, 40, gated=True, residual=True),
        Conv2d(3, 5, 7, 33, 24, gated=True, activation="silu", residual=True),  # a gate for each of three images
        Conv2d(3, 1, 2, 6, 13, gated=True, residual=True),
        Conv2d(2, 5, 5, 40, 24, gated=True, activation="sigmoid", residual=True, activation_last=True),
        Conv2d(2, 3, 3, 1200, 200, gated=True),  # more weights than the second-level cache holds
    ],
    ids=lambda workload: workload.name,
)
def test_gated_matches_reference(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "pointwise")


@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 1, 1, 96, 4, activation="silu"),
        Conv2d(1, 1, 1, 6, 144, activation="sigmoid"),
        Conv2d(1, 1, 1, 320, 1000),
        Conv2d(5, 1, 1, 40, 24, activation="silu"),
        Conv2d(8, 1, 1, 33, 17, residual=True),
        Conv2d(8, 1, 1, 33, 17, activation="relu", residual=True, activation_last=True),
        Conv2d(61, 1, 1, 16, 16),
    ],
    ids=lambda workload: workload.name,
)
def test_dense_matches_reference(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "pointwise")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 3),
    height=st.integers(2, 23),
    width=st.integers(1, 23),
    depth=st.integers(1, 40),
    channels=st.integers(1, 70),
    residual=st.booleans(),
    gated=st.booleans(),
)
def test_any_shape(
    batch: int, height: int, width: int, depth: int, channels: int, residual: bool, gated: bool, check_kernel: Check
) -> None:
    workload = Conv2d(batch, height, width, depth, channels, activation="silu", residual=residual, gated=gated)
    check_kernel(workload, load_target("cpu"), "pointwise")


def default(workload: Conv2d, machine: Machine) -> Decisions:
    space = space_of(workload, machine)
    assert space is not None and space.rule == "pointwise"
    return space.default


@pytest.mark.parametrize("cores", [1, 2, 64])
@pytest.mark.parametrize("gated", [False, True])
def test_weights_are_cut_to_the_cache(cores: int, gated: bool) -> None:
    machine = replace(load_target("x86-64-v4"), cores=cores)
    decisions = default(Conv2d(1, 75, 75, 640, 3840, gated=gated), machine)
    assert 3840 // decisions["chunks"] * 640 * 4 <= machine.l2_bytes * 3 // 4
    assert decisions["rows"] * decisions["vectors"] < machine.vector_registers


@pytest.mark.parametrize(("rows", "depth", "channels"), [(196, 80, 480), (49, 192, 1152), (361, 136, 816)])
def test_rows_are_never_wasted_much(rows: int, depth: int, channels: int) -> None:
    side = round(rows**0.5)
    decisions = default(Conv2d(1, side, side, depth, channels), replace(load_target("x86-64-v4"), cores=2))
    assert blocks(rows, decisions["rows"]) * decisions["rows"] <= 1.06 * rows


def test_only_long_dense_layers_are_shared_between_cores() -> None:
    machine = load_target("x86-64-v4")
    assert not default(Conv2d(1, 1, 1, 96, 4), machine)["parallel"]
    assert default(Conv2d(1, 1, 1, 1280, 1000), machine)["parallel"]
