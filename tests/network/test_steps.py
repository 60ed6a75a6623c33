"""The step at which a staircase comes to a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.network.steps import around_step


@given(st.floats(0.1, 5), st.floats(0, 0.99))
def test_the_two_numbers_are_on_both_sides_of_the_step(slope: float, share: float) -> None:
    def macs(value: float) -> float:
        return math.floor(slope * value)

    wanted = share * macs(64.0) + 0.5
    if macs(64.0) < wanted:
        return
    below, above = around_step(macs, wanted, 0.0, 64.0, 20)
    assert macs(below) < wanted <= macs(above)
    assert above - below == pytest.approx(64 / 2**20)


def test_what_is_too_large_may_be_infinite() -> None:
    below, above = around_step(lambda value: math.inf if value > 3 else value, 2.0, 0.0, 8.0, 30)
    assert below < 2 <= above < 2.001
