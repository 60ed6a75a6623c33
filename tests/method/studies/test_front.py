"""The front of a baseline search: rewards, who is on it, and what its confirmation leaves."""

import random
from dataclasses import replace

import pytest
from baseline_searches import full_report, member, tried
from hypothesis import given
from hypothesis import strategies as st

from effgen.method.studies.front import Member, beside, confirmed_front, front_of, reward


def test_reward_is_mnasnets() -> None:
    assert reward(0.75, 0.080, 0.080) == 0.75
    # MnasNet's section 3: twice the latency is worth 5% of the accuracy, relative: 1.05^... = 2^0.07.
    assert reward(0.75 * 2**0.07, 0.160, 0.080) == pytest.approx(0.75)
    assert pytest.approx(1.05, abs=1e-3) == 2**0.07
    assert reward(0.5, 0.001, 0.01, exponent=0.0) == 0.5


@given(st.floats(0.01, 1), st.floats(1e-5, 1), st.floats(1e-5, 1), st.floats(-2, -0.01))
def test_reward_grows_with_accuracy_and_falls_with_latency(
    accuracy: float, latency: float, target: float, exponent: float
) -> None:
    here = reward(accuracy, latency, target, exponent)
    assert reward(accuracy * 0.9, latency, target, exponent) < here
    assert reward(accuracy, latency * 1.1, target, exponent) < here


def test_front_is_of_those_trained_to_the_end() -> None:
    slow, fast, pruned = tried(0, 0.9, 2.0), tried(1, 0.8, 1.0), tried(2, 0.95, 0.5, state="pruned")
    failed = tried(3, None, 0.1)
    assert front_of([slow, fast, pruned, failed, tried(4, 0.85, 2.5)]) == [fast, slow]
    assert front_of([pruned]) == []


def test_confirmation_replaces_the_searchs_own_numbers() -> None:
    lucky = member(tried(1, 0.99, 0.5), 0.80, 0.82)
    start = member(tried(0, 0.9, 1.0), 0.9, 0.92)
    assert lucky.accuracy == pytest.approx(0.81) and lucky.latency_ms == pytest.approx(0.45)
    assert not beside(lucky, start).dominates
    assert confirmed_front([start, lucky]) == [lucky, start]
    assert confirmed_front([start, replace(lucky, error="diverged")]) == [start]
    alone = Member(tried(1, 0.99, 0.5))
    assert (alone.accuracy, alone.latency_ms, alone.sample.spread) == (0.99, 0.5, None)


_SAME, _BETTER, _WORSE = (0.90, 0.92, 0.911), (0.95, 0.96, 0.955), (0.86, 0.87, 0.865)


@pytest.mark.parametrize(
    ("accuracies", "milliseconds", "dominates", "beyond", "told"),
    [
        pytest.param(_BETTER, 1.0, True, True, ("no slower", "more accurate"), id="more accurate"),
        pytest.param(_BETTER, 0.5, True, True, ("faster", "more accurate"), id="both"),
        pytest.param(_SAME, 0.5, True, False, ("faster", "accuracy not told apart"), id="faster"),
        pytest.param(_SAME, 0.95, True, False, ("no slower", "accuracy not told apart"), id="a little of both"),
        pytest.param((0.90, 0.92, 0.910), 1.0, False, False, ("no slower", "accuracy not told apart"), id="the same"),
        pytest.param(_BETTER, 1.1, False, False, ("latency not told apart", "more accurate"), id="a little slower"),
        pytest.param(_BETTER, 1.5, False, False, ("slower", "more accurate"), id="slower"),
        pytest.param(_WORSE, 0.5, False, False, ("faster", "less accurate"), id="less accurate"),
    ],
)
def test_beside_the_start(
    accuracies: tuple[float, ...], milliseconds: float, dominates: bool, beyond: bool, told: tuple[str, str]
) -> None:
    start = member(tried(0, 0.9, 1.0), 0.90, 0.92, 0.91)
    by = beside(member(tried(1, 0.9, milliseconds), *accuracies), start)
    assert (by.dominates, by.beyond_spread, (by.speed, by.accuracy)) == (dominates, beyond, told)
    assert by.ratio == pytest.approx(milliseconds)


def test_faster_dominates_where_accuracy_is_no_worse_for_all_we_know() -> None:
    start = member(tried(0, 0.9, 1.0), 0.9000, 0.9004, 0.9002, 0.9003)
    by = beside(member(tried(1, 0.9, 0.5), 0.9003, 0.9001, 0.9002, 0.9005), start)
    assert (by.dominates, by.beyond_spread, by.accuracy) == (True, True, "no less accurate")
    by = beside(member(tried(1, 0.9, 0.5), 0.8999, 0.8998, 0.8999, 0.8997), start)
    assert (by.dominates, by.beyond_spread, by.accuracy) == (False, False, "less accurate")  # but by 0.04 points


def test_a_wide_latency_is_not_no_slower() -> None:
    start = member(tried(0, 0.9, 1.0), *_SAME)
    by = beside(member(tried(1, 0.9, 1.0), *_BETTER, spread=0.2), start)
    assert (by.dominates, by.beyond_spread, by.speed) == (True, False, "latency not told apart")


def test_a_faster_network_half_a_point_worse_rarely_dominates() -> None:
    """One dimension clear and luck in the other made it 27%."""
    draw, wrong = random.Random(1), 0
    for _ in range(300):
        start, fast = ([draw.gauss(mean, 0.01) for _ in range(3)] for mean in (0.9, 0.895))
        wrong += beside(member(tried(1, 0.9, 0.5), *fast), member(tried(0, 0.9, 1.0), *start)).beyond_spread
    assert wrong <= 15


def test_every_network_of_the_front_is_a_comparison() -> None:
    report = full_report()
    one = report.beside_start(report.members[0])
    alone = replace(report, members=report.members[:1]).beside_start(report.members[0])
    assert one.low is not None and alone.low is not None and one.low < alone.low


def test_accuracies_of_the_search_are_not_compared_with_confirmed_ones() -> None:
    start = Member(tried(0, 0.9, 1.0), None, member(tried(0, 0.9, 1.0)).timing, "out of memory")
    by = beside(member(tried(1, 0.9, 0.5), *_BETTER), start)
    assert (by.gain, by.dominates, by.accuracy, by.speed) == (None, False, "accuracy not told apart", "faster")
    report = replace(full_report(), start=start)
    assert report.is_confirmed and report.judged(start) is None and report.judged(report.members[0]) is not None


def test_one_training_is_never_beyond_the_spread() -> None:
    by = beside(Member(tried(1, 0.99, 0.5)), Member(tried(0, 0.9, 1.0)))
    assert by.dominates and not by.beyond_spread and by.error is None


def test_report_knows_the_start() -> None:
    report = full_report()
    assert report.is_confirmed
    assert [each.candidate.trial for each in report.front] == [1, 2]
    assert report.found == list(report.front) and not report.is_start(report.front[0])
