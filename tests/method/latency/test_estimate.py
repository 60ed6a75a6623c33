"""Estimates of kernels' seconds: fitted to what was measured, never negative, not led astray by outliers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.method.latency.estimate import MIN_KERNELS, Estimator, TimedKernel, fitted_prices, nonnegative_solution
from effgen.method.latency.work import Work


def work(draw: np.random.Generator, group: str = "pointwise") -> Work:
    macs = int(10 ** draw.uniform(5, 8))
    cycles = macs / 16 * draw.uniform(0.8, 1.2)
    data, weights = int(10 ** draw.uniform(3, 6)), int(10 ** draw.uniform(3, 6))
    return Work(group, False, cycles, macs, data, 0, weights, 0)


def law(work: Work) -> float:
    return work.cycles / 2e9 + work.data_bytes / 2e10 + work.weight_bytes / 1e10 + 1e-6


def test_a_cost_model_is_recovered() -> None:
    draw = np.random.default_rng(0)
    works = [work(draw) for _ in range(60)]
    estimator = Estimator([TimedKernel(one, law(one)) for one in works])
    for _ in range(20):
        other = work(draw)
        assert estimator.seconds(other) == pytest.approx(law(other), rel=1e-3)


def test_noise_and_outliers_leave_the_fit_unbiased() -> None:
    draw = np.random.default_rng(1)
    works = [work(draw) for _ in range(200)]
    seconds = [law(one) * float(np.exp(draw.normal(0, 0.15))) for one in works]
    seconds[::20] = [5 * s for s in seconds[::20]]  # something else ran meanwhile
    estimator = Estimator([TimedKernel(*pair) for pair in zip(works, seconds, strict=True)])
    ratios = [estimator.seconds(one) / law(one) for one in works]
    assert np.median(ratios) == pytest.approx(1.0, abs=0.06)


def test_a_group_with_few_kernels_gets_the_prices_of_all() -> None:
    draw = np.random.default_rng(2)
    samples = [TimedKernel(one, law(one)) for one in (work(draw) for _ in range(40))]
    few = [TimedKernel(one, 100 * law(one)) for one in (work(draw, "rare") for _ in range(MIN_KERNELS - 1))]
    rare = Estimator([*samples, *few]).seconds(work(np.random.default_rng(3), "rare"))
    assert 0.5 < rare / law(work(np.random.default_rng(3))) < 3
    enough = [TimedKernel(one, 100 * law(one)) for one in (work(draw, "rare") for _ in range(30))]
    own = Estimator([*samples, *enough]).seconds(work(np.random.default_rng(3), "rare"))
    assert own == pytest.approx(100 * law(work(np.random.default_rng(3))), rel=0.05)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_more_work_never_takes_less_time(seed: int, factor: int) -> None:
    draw = np.random.default_rng(seed)
    works = [work(draw) for _ in range(15)]
    estimator = Estimator([TimedKernel(one, float(10 ** draw.uniform(-6, -3))) for one in works])
    one = works[0]
    more = Work(
        one.group,
        one.half,
        *(factor * amount for amount in (one.cycles, one.macs, one.data_bytes, 0, one.weight_bytes, 0)),
    )
    assert estimator.seconds(more) >= estimator.seconds(one) > 0


@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.integers(1, 6))
def test_solution_is_the_best_without_negative_parts(seed: int, rows: int, columns: int) -> None:
    """The conditions of Karush, Kuhn and Tucker: no part of the gradient points to a better solution."""
    draw = np.random.default_rng(seed)
    matrix, right = draw.normal(size=(rows, columns)), draw.normal(size=rows)
    x = nonnegative_solution(matrix, right)
    gradient = matrix.T @ (right - matrix @ x)
    scale = np.linalg.norm(matrix) * np.linalg.norm(right)
    assert (x >= 0).all()
    assert (gradient <= 1e-6 * scale).all()
    assert (np.abs(gradient[x > 0]) <= 1e-6 * scale).all()


def test_columns_of_nothing_cost_nothing() -> None:
    amounts = np.array([[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
    assert fitted_prices(amounts, np.array([2.0, 4.0, 8.0])) == pytest.approx([2.0, 0.0])
