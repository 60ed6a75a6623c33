"""Student's t, beside printed tables and scipy."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.method.studies.student import quantile


@pytest.mark.parametrize(
    ("share", "degrees", "t"),
    [(0.05, 1, 12.706), (0.05, 2, 4.303), (0.05, 4, 2.776), (0.01, 4, 4.604), (0.05, 22, 2.074), (0.1, 10, 1.812)],
)
def test_values_of_the_printed_table(share: float, degrees: float, t: float) -> None:
    assert quantile(share, degrees) == pytest.approx(t, abs=6e-4)


@given(st.floats(1e-4, 0.5), st.floats(1, 3000))
def test_as_scipy_has_it(share: float, degrees: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert quantile(share, degrees) == pytest.approx(stats.t.ppf(1 - share / 2, degrees), rel=2e-3)


@given(st.floats(1e-4, 0.5))
def test_many_degrees_make_it_normal_and_one_makes_it_cauchy(share: float) -> None:
    normal = statistics.NormalDist().inv_cdf(1 - share / 2)
    assert quantile(share, 3000) == pytest.approx(normal, rel=4e-3)
    assert quantile(share, 1) == pytest.approx(math.tan(math.pi / 2 * (1 - share)), rel=1e-6)
