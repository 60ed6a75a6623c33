"""Tiles fit the registers, never exceed their extents, and share the work fairly."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.kernels.tiles import blocks, divisors, lanes, row_tile, window_tile
from effgen.kernels.workload import Conv2d
from effgen.target import load_target

MACHINES = [load_target("x86-64-v3"), load_target("x86-64-v4")]


@given(
    machine=st.sampled_from(MACHINES),
    cores=st.sampled_from([1, 2, 3, 16, 64]),
    size=st.integers(2, 150),
    depth=st.integers(1, 700),
    channels=st.integers(1, 700),
)
def test_row_tile_fits(machine: object, cores: int, size: int, depth: int, channels: int) -> None:
    machine = replace(machine, cores=cores)  # type: ignore[type-var]
    workload = Conv2d(1, size, size, depth, channels)
    tile = row_tile(workload, machine)
    vectors = blocks(channels, lanes(channels, machine))
    assert 1 <= tile.rows <= workload.rows
    assert vectors % tile.vectors == 0
    assert tile.rows * tile.vectors + tile.vectors < machine.vector_registers


@given(
    machine=st.sampled_from(MACHINES),
    height=st.integers(7, 80),
    width=st.integers(7, 80),
    channels=st.integers(2, 200),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.integers(1, 2),
    depthwise=st.booleans(),
)
def test_window_tile_fits(
    machine: object, height: int, width: int, channels: int, kernel: int, stride: int, depthwise: bool
) -> None:
    groups = channels if depthwise else 1
    workload = Conv2d(1, height, width, channels, channels, (kernel, kernel), (stride, stride), groups=groups)
    tile = window_tile(workload, machine)  # type: ignore[arg-type]
    assert 1 <= tile.rows <= workload.out_height
    assert 1 <= tile.columns <= workload.out_width
    assert tile.columns * tile.vectors < machine.vector_registers  # type: ignore[attr-defined]


@pytest.mark.parametrize(("channels", "expected"), [(32, 16), (24, 8), (1000, 8), (20, 16), (4, 16)])
def test_lanes_leave_no_rest_where_they_can(channels: int, expected: int) -> None:
    assert lanes(channels, MACHINES[1]) == expected


def test_divisors() -> None:
    assert divisors(12) == [1, 2, 3, 4, 6, 12]


def test_efficientnet_b0_rows_are_never_wasted_much() -> None:
    for rows, depth, channels in [(196, 80, 480), (49, 192, 1152), (361, 136, 816), (1444, 48, 288)]:
        side = round(rows**0.5)
        tile = row_tile(Conv2d(1, side, side, depth, channels), replace(MACHINES[1], cores=2))
        assert blocks(rows, tile.rows) * tile.rows <= 1.06 * rows
