"""Accuracies over seeds, and when two networks can be told apart."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.studies.samples import Sample, compare, sample_of

_ACCURACIES = st.lists(st.floats(0, 1), min_size=2, max_size=6)


def sample(*values: float) -> Sample:
    found = sample_of(values)
    assert found is not None
    return found


def test_mean_and_spread() -> None:
    found = sample(0.9, 0.92, 0.94)
    assert (found.mean, found.spread) == (pytest.approx(0.92), pytest.approx(0.02))
    assert sample(0.9).spread is None and sample_of([]) is None


def test_a_difference_is_believed_from_two_standard_errors_on() -> None:
    one = sample(0.90, 0.92)  # spread 0.0141, standard error of a difference with another such one 0.0141
    assert compare(one, sample(0.92, 0.94)).outcome == "is not told apart from"
    assert compare(one, sample(0.93, 0.95)).outcome == "loses to"
    assert compare(sample(0.93, 0.95), one).outcome == "beats"
    assert compare(one, sample(0.93, 0.95)).error == pytest.approx(math.sqrt(2 * 0.0002 / 2))


def test_one_seed_tells_nothing_apart() -> None:
    found = compare(sample(0.1), sample(0.9, 0.91))
    assert (found.outcome, found.error) == ("is not told apart from", None)
    assert found.difference == pytest.approx(-0.805)


def test_equal_accuracies_are_not_told_apart() -> None:
    assert compare(sample(0.9, 0.9), sample(0.9, 0.9)).outcome == "is not told apart from"
    assert compare(sample(0.9, 0.9), sample(0.8, 0.8)).outcome == "beats"


@given(_ACCURACIES, _ACCURACIES)
def test_comparing_the_other_way_round_says_the_opposite(first: list[float], second: list[float]) -> None:
    one, other = sample(*first), sample(*second)
    there, back = compare(one, other), compare(other, one)
    opposite = {"beats": "loses to", "loses to": "beats", "is not told apart from": "is not told apart from"}
    assert back.outcome == opposite[there.outcome] and back.difference == pytest.approx(-there.difference)
    assert there.difference == pytest.approx(statistics.fmean(first) - statistics.fmean(second))
