"""What tiles are made of: lanes without a rest, registers, rows of a band, turns of the cores."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.kernels.tiles import (
    blocks,
    copy_cycles,
    divisors,
    fits_registers,
    fits_stack,
    level_price,
    tile_cycles,
    turns,
)
from effgen.kernels.workload import Activation
from effgen.machines.target import load_target

AVX2, AVX512 = load_target("x86-64-v3"), load_target("x86-64-v4")


@pytest.mark.parametrize(("channels", "expected"), [(32, 16), (24, 8), (1000, 8), (20, 16), (4, 16)])
def test_lanes_leave_no_rest_where_they_can(channels: int, expected: int) -> None:
    assert AVX512.lanes_of(channels) == expected


def test_divisors() -> None:
    assert divisors(12) == [1, 2, 3, 4, 6, 12]


@given(extent=st.integers(1, 500), tile=st.integers(1, 60))
def test_blocks_cover(extent: int, tile: int) -> None:
    assert (blocks(extent, tile) - 1) * tile < extent <= blocks(extent, tile) * tile


@given(rows=st.integers(1, 40), vectors=st.integers(1, 40))
def test_register_tiles_leave_room_to_work(rows: int, vectors: int) -> None:
    """Beside the accumulators: a weight for each vector, a broadcast input, and no fewer than four in all."""
    for machine in (AVX2, AVX512):
        left = machine.vector_registers - rows * vectors
        assert fits_registers(rows, vectors, machine) == (left >= max(4, vectors + 1))


def test_stack_is_a_share_of_the_cache_and_never_a_lot() -> None:
    assert fits_stack(AVX2.l2_bytes // 4, AVX2) and not fits_stack(AVX2.l2_bytes // 4 + 1, AVX2)
    assert not fits_stack(1024 * 1024, replace(AVX512, l2_bytes=64 * 1024 * 1024))


def test_turns_of_the_busiest_core() -> None:
    machine = replace(AVX512, cores=4)
    assert [turns(tasks, machine) for tasks in (1, 4, 5, 8)] == [1, 1, 2, 2]


def cost(rows: int, vectors: int, activation: Activation) -> float:
    return tile_cycles(rows, vectors, 64, activation, AVX512.costs)


def test_estimates_prefer_what_is_faster() -> None:
    """A tile of many multiply-adds to each load; a cheap activation; a copy that stays in the nearest cache."""
    assert cost(12, 2, "none") / 24 < cost(24, 1, "none") / 24
    assert cost(4, 2, "none") / 8 < cost(2, 1, "none") / 2
    assert cost(4, 2, "relu") < cost(4, 2, "silu")
    costs = [copy_cycles(size, AVX512) / size for size in (AVX512.l1_bytes, AVX512.l2_bytes // 4, AVX512.l2_bytes)]
    assert costs == sorted(costs)


def test_the_price_of_data_is_that_of_the_nearest_level_that_holds_it() -> None:
    assert [level_price(size, (8, 64), (1.0, 2.0, 3.0)) for size in (8, 9, 64, 65)] == [1.0, 2.0, 2.0, 3.0]


def test_estimates_are_of_the_costs_that_a_target_states() -> None:
    dearer = AVX512.costs.model_copy(update={"store": 20.0})
    assert tile_cycles(4, 2, 64, "relu", dearer) - cost(4, 2, "relu") == 8 * (20 - AVX512.costs.store)
    assert tile_cycles(4, 2, 64, "silu", dearer) == cost(4, 2, "silu")


def test_weights_from_the_second_level_want_tiles_of_many_rows() -> None:
    dearer = AVX512.costs.model_copy(update={"tile_second": 4.0})

    def cycles(rows: int, near: bool) -> float:
        return tile_cycles(rows, 4, 64, "none", dearer, near=near)

    assert cycles(2, near=False) - cycles(2, near=True) == pytest.approx(64 * (4 * 4.0 - 2 * 4))
    assert cycles(6, near=False) == cycles(6, near=True)
