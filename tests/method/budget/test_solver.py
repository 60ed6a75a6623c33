"""The search on lines whose costs are known: by estimates alone, and with measurements that correct them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effgen.errors import BudgetError
from effgen.method.budget.limits import Limit, LimitKind
from effgen.method.budget.line import STEPS, Rung
from effgen.method.budget.solver import CLOSE, Bound, Search


class Stretches:
    """A line of networks that begin at these millionths of phi; what they are does not matter."""

    def __init__(self, starts: list[int], end: int) -> None:
        self.starts, self.low, self.high = starts, starts[0], end
        ends = [start - 1 for start in starts[1:]] + [end]
        self.rungs = [Rung(first, last) for first, last in zip(starts, ends, strict=True)]

    def rung(self, step: int) -> Rung:
        return next(rung for rung in reversed(self.rungs) if rung.first <= step)

    def below(self, rung: Rung) -> Rung | None:
        index = self.rungs.index(rung)
        return self.rungs[index - 1] if index else None

    def above(self, rung: Rung) -> Rung | None:
        index = self.rungs.index(rung) + 1
        return self.rungs[index] if index < len(self.rungs) else None


@st.composite
def lines(draw: st.DrawFn) -> Stretches:
    starts = sorted(draw(st.sets(st.integers(-8 * STEPS, 12 * STEPS), min_size=1, max_size=60)))
    return Stretches(starts, starts[-1] + draw(st.integers(0, STEPS)))


def fine_line(count: int = 800) -> Stretches:
    """Networks from phi -4 to 4, a hundredth of phi each: 0.7% more multiply-adds at 2^phi."""
    return Stretches([(index - count // 2) * STEPS // 100 for index in range(count)], count // 2 * STEPS // 100 - 1)


def bound(most: float, cost: Callable[[Rung], float], kind: LimitKind = "macs", **more: Any) -> Bound:
    how = "predicted" if kind == "latency" else "exact"
    return Bound(Limit(kind, most, f"{most:g}"), more.pop("target", None), how, cost, **more)


def doubling(rung: Rung) -> float:
    return float(2 ** (rung.first / STEPS))


@given(lines(), st.lists(st.floats(0.003, 5000), min_size=1, max_size=3))
def test_estimates_find_the_very_last_that_fits(line: Stretches, most: list[float]) -> None:
    bounds = [bound(limit, doubling, grows=True) for limit in most]
    fitting = [rung for rung in line.rungs if doubling(rung) <= min(most)]
    search = Search(line, bounds)  # type: ignore[arg-type]
    if fitting:
        assert search.run() == fitting[-1]
    else:
        with pytest.raises(BudgetError, match="not even the smallest network"):
            search.run()


@given(lines(), st.floats(0.01, 2000), st.floats(1, 10))
def test_a_larger_budget_is_never_a_smaller_network(line: Stretches, most: float, times: float) -> None:
    roomy, tight = (bound(limit, doubling, grows=True) for limit in (most * times, most))
    if doubling(line.rungs[0]) <= most:
        found = [Search(line, [one]).run() for one in (tight, roomy)]  # type: ignore[arg-type]
        assert found[0].first <= found[1].first


@given(lines(), st.randoms(use_true_random=False), st.floats(0.05, 100))
def test_costs_that_fall_now_and_then(line: Stretches, random: Any, most: float) -> None:
    """What is found fits; the next ones do not."""
    wobble = {rung: random.uniform(0.7, 1.4) for rung in line.rungs}
    search = Search(line, [bound(most, lambda rung: doubling(rung) * wobble[rung])])  # type: ignore[arg-type]
    try:
        found = search.run()
    except BudgetError:
        assert doubling(line.rungs[0]) * wobble[line.rungs[0]] > most
        return
    at = line.rungs.index(found)
    assert search.fits(found)
    assert not any(map(search.fits, line.rungs[at + 1 : at + 17]))


def test_a_network_beyond_one_that_is_too_slow_is_found() -> None:
    line = fine_line()
    slow = line.rungs[395:405]
    search = Search(line, [bound(1.1, lambda rung: doubling(rung) * (1.3 if rung in slow else 1))])  # type: ignore[arg-type]
    assert search.run() == line.rungs[413]


class Truth:
    """A machine on which the estimate is wrong by `factor`, which drifts along the line, and times are noisy."""

    def __init__(self, factor: float, drift: float = 0.0, noise: float = 0.0, random: Any = None) -> None:
        self.factor, self.drift, self.noise, self.random = factor, drift, noise, random
        self.measured: list[Rung] = []
        self.bounds: list[Bound] = []

    def seconds(self, rung: Rung) -> float:
        return doubling(rung) * self.factor * (1 + self.drift * rung.first / STEPS)

    def measure(self, rung: Rung) -> Mapping[Bound, float]:
        self.measured.append(rung)
        noise = 1 + (self.random.uniform(-self.noise, self.noise) if self.random else 0)
        return {bound: self.seconds(rung) * noise for bound in self.bounds}


def search_of(line: Stretches, truth: Truth, *bounds: Bound) -> Search:
    truth.bounds = [bound for bound in bounds if bound.measurable]
    return Search(line, bounds, truth.measure)  # type: ignore[arg-type]


@settings(max_examples=50)
@given(st.floats(0.3, 3), st.floats(-0.05, 0.05), st.floats(0.3, 4))
def test_what_is_returned_was_measured_close_under_the_limit(factor: float, drift: float, most: float) -> None:
    line, truth = fine_line(), Truth(factor, drift)
    latency = bound(most, doubling, "latency", target="cpu", measurable=True)
    search = search_of(line, truth, latency)
    found = search.run()
    assert found in truth.measured
    assert CLOSE <= truth.seconds(found) / most <= 1
    assert truth.measured[-1] == found and truth.measured.count(found) == 2, "the winner is measured once more"
    assert len(truth.measured) == len(set(truth.measured)) + 1 <= 6
    assert not search.gave_up


@settings(max_examples=50)
@given(st.floats(0.3, 3), st.randoms(use_true_random=False))
def test_noise_is_lived_with(factor: float, random: Any) -> None:
    """With times that are 2% off at random, what is returned was measured to fit, and is no more than 5% from it."""
    truth = Truth(factor, noise=0.02, random=random)
    latency = bound(1.0, doubling, "latency", target="cpu", measurable=True)
    search = search_of(fine_line(), truth, latency)
    found = search.run()
    assert search.measured[found][latency] <= 1
    assert 0.9 <= truth.seconds(found) <= 1.02
    assert len(set(truth.measured)) <= 8 and truth.measured.count(found) == 2


def test_a_network_that_was_lucky_once_is_not_taken() -> None:
    """Every network's first time is 6% short, its second as much too long: what is returned fits by both."""
    truth = Truth(1.0)
    latency = bound(1.0, doubling, "latency", target="cpu", measurable=True)

    def measure(rung: Rung) -> Mapping[Bound, float]:
        truth.measured.append(rung)
        return {latency: truth.seconds(rung) * (0.94 if truth.measured.count(rung) == 1 else 1.06)}

    search = Search(fine_line(), [latency], measure)  # type: ignore[arg-type]
    found = search.run()
    assert search.measured[found][latency] == pytest.approx(truth.seconds(found))
    assert 0.9 <= truth.seconds(found) <= 1


def test_a_search_that_never_settles_gives_up_with_the_best() -> None:
    """A machine that takes half as long for each next network: there is always a larger one to try."""
    latency = bound(1.0, doubling, "latency", target="cpu", measurable=True)
    measured: list[Rung] = []

    def measure(rung: Rung) -> Mapping[Bound, float]:
        measured.append(rung)
        return {latency: 0.8}

    search = Search(fine_line(), [latency], measure)  # type: ignore[arg-type]
    assert search.run() == max(measured, key=lambda rung: rung.first)
    assert search.gave_up and len(measured) == 8


def test_an_exact_limit_that_binds_needs_one_measurement() -> None:
    line, truth = fine_line(), Truth(1.2)
    macs = bound(0.5, doubling, grows=True)
    latency = bound(1.0, doubling, "latency", target="cpu", measurable=True)
    found = search_of(line, truth, latency, macs).run()
    assert found == line.rungs[300] and truth.measured == [found]


def test_the_slowest_of_several_machines_decides() -> None:
    line, truth = fine_line(), Truth(2.0)
    here = bound(1.0, doubling, "latency", target="cpu", measurable=True)
    predicted = bound(1.0, lambda rung: 4 * doubling(rung), "latency", target="rpi4")
    search = search_of(line, truth, here, predicted)
    found = search.run()
    assert found.first == -2 * STEPS
    assert [(cost.bound.target, cost.how) for cost in search.costs(found)] == [
        ("cpu", "measured"),
        ("rpi4", "predicted"),
    ]


def test_a_pessimistic_estimate_of_the_smallest_is_checked() -> None:
    """Not even the smallest is expected to fit: it is measured before anybody is refused."""
    truth = Truth(0.01)
    latency = bound(0.05, doubling, "latency", target="cpu", measurable=True)
    found = search_of(fine_line(), truth, latency).run()
    assert CLOSE <= truth.seconds(found) / 0.05 <= 1
    assert truth.measured[0] == fine_line().rungs[0]


def test_an_impossible_budget_says_what_fails_at_the_smallest_network() -> None:
    line, truth = fine_line(), Truth(2.0)
    latency = bound(0.1, doubling, "latency", target="cpu", measurable=True)
    parameters = bound(1.0, doubling, "params", grows=True)
    with pytest.raises(BudgetError) as caught:
        search_of(line, truth, latency, parameters).run()
    assert str(caught.value) == (
        "not even the smallest network, phi -3.990001, fits: --max-latency 0.1: 0 on cpu (measured); allow more of it"
    )
    assert truth.measured[-1] == line.rungs[0] and len(truth.measured) == 2


def test_a_count_that_is_impossible_costs_no_measurement() -> None:
    truth = Truth(1.0)
    latency = bound(1.0, doubling, "latency", target="cpu", measurable=True)
    macs = bound(0.01, doubling, grows=True)
    with pytest.raises(BudgetError, match=r"--max-macs 0.01: 0 \(exact\)"):
        search_of(fine_line(), truth, latency, macs).run()
    assert not truth.measured


def test_a_machine_that_gets_slower_and_slower_is_said_to_be_busy() -> None:
    line, latency = fine_line(), bound(1.0, doubling, "latency", target="cpu", measurable=True)
    search = Search(line, [latency], lambda rung: {latency: 1.02})  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match="none of 8 networks was measured to fit: is the machine busy"):
        search.run()
