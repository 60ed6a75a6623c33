"""Accuracies over seeds, and when two networks can be told apart."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.method.studies.samples import Sample, Verdict, compare, sample_of

_ACCURACIES = st.lists(st.floats(0, 1), min_size=2, max_size=6)


def sample(*values: float) -> Sample:
    found = sample_of(values)
    assert found is not None
    return found


def test_mean_and_spread() -> None:
    found = sample(0.9, 0.92, 0.94)
    assert (found.mean, found.spread) == (pytest.approx(0.92), pytest.approx(0.02))
    assert sample(0.9).spread is None and sample_of([]) is None


def test_a_difference_is_believed_beyond_welch_s_t() -> None:
    one, other = sample(0.90, 0.92, 0.91), sample(0.93, 0.95, 0.94)
    found = compare(other, one)
    # Both spreads are 0.01: the error of the difference is 0.01 * sqrt(2 / 3), with 4 degrees of freedom t is 2.776.
    assert found.error == pytest.approx(0.01 * math.sqrt(2 / 3))
    assert (found.low, found.high) == pytest.approx((0.03 - 0.02267, 0.03 + 0.02267), abs=1e-5)
    assert found.outcome == "beats" and compare(one, other).outcome == "loses to"
    assert compare(one, sample(0.92, 0.94, 0.93)).outcome == "is not told apart from"  # 2.4 standard errors


def test_two_seeds_of_unequal_spread_leave_little_to_believe() -> None:
    """Of such samples only one degree of freedom is left: 12.7 standard errors are asked for."""
    wide, narrow = sample(0.90, 0.92), sample(0.99, 0.9902)
    assert compare(narrow, wide).outcome == "is not told apart from"
    assert compare(sample(0.99, 0.9902, 0.9901), sample(0.90, 0.92, 0.91)).outcome == "beats"


def test_more_comparisons_ask_for_more() -> None:
    one, other = sample(0.90, 0.92, 0.91), sample(0.93, 0.95, 0.94)
    outcomes = [compare(other, one, comparisons).outcome for comparisons in (1, 2, 3)]
    assert outcomes == ["beats", "beats", "is not told apart from"]
    intervals = [compare(other, one, comparisons) for comparisons in (1, 3, 10)]
    assert all(a.low > b.low for a, b in itertools.pairwise(intervals))  # type: ignore[operator]


@pytest.mark.parametrize("count", [2, 3, 12])
def test_networks_that_are_the_same_are_rarely_told_apart(count: int) -> None:
    """All of three comparisons with one network, at most 5% of the time; twice the standard error made it 25% of 3."""
    draw, wrong, times = random.Random(7), 0, 400
    for _ in range(times):
        best, *others = (sample(*(draw.gauss(0.9, 0.01) for _ in range(count))) for _ in range(4))
        wrong += any(compare(best, other, 3).outcome != "is not told apart from" for other in others)
    assert wrong / times < 0.07


def test_one_seed_tells_nothing_apart() -> None:
    found = compare(sample(0.1), sample(0.9, 0.91))
    assert (found.outcome, found.error) == ("is not told apart from", None)
    assert found.difference == pytest.approx(-0.805)


def test_seeds_that_agree_are_not_certain() -> None:
    """The 400 pictures differ by one."""
    one, other = sample(0.95, 0.95), sample(0.9475, 0.9475)
    assert compare(one, other) == Verdict("is not told apart from", pytest.approx(0.0025))
    assert compare(one, sample(0.5, 0.5)).outcome == "is not told apart from"
    assert compare(one, other, pictures=400).outcome == "is not told apart from"
    found = compare(one, sample(0.85, 0.85), pictures=400)
    assert found.outcome == "beats" and found.error == pytest.approx(math.sqrt(0.9 * 0.1 / 400))
    assert compare(sample(1.0, 1.0), sample(1.0, 1.0), pictures=400).outcome == "is not told apart from"


def test_pictures_bound_what_seeds_can_tell() -> None:
    one, other = sample(0.9501, 0.9502, 0.95), sample(0.9401, 0.9402, 0.94)
    assert compare(one, other).outcome == "beats"
    assert compare(one, other, pictures=400).outcome == "is not told apart from"
    assert compare(one, other, pictures=50_000).outcome == "beats"


@given(_ACCURACIES, _ACCURACIES)
def test_comparing_the_other_way_round_says_the_opposite(first: list[float], second: list[float]) -> None:
    one, other = sample(*first), sample(*second)
    there, back = compare(one, other), compare(other, one)
    opposite = {"beats": "loses to", "loses to": "beats", "is not told apart from": "is not told apart from"}
    assert back.outcome == opposite[there.outcome] and back.difference == pytest.approx(-there.difference)
    assert there.difference == pytest.approx(statistics.fmean(first) - statistics.fmean(second))
