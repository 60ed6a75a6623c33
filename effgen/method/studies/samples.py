"""Accuracies of the same network with several seeds, and whether two networks can be told apart by them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from effgen.method.studies.student import quantile

Finding = Literal["beats", "loses to", "is not told apart from"]

#: How likely one wrong verdict is at the most, over all comparisons that a search makes.
LEVEL = 0.05


@dataclass(frozen=True)
class Sample:
    """Accuracies, 0..1, one a seed: their mean and spread (standard deviation of one seed; None: of one seed alone)."""

    values: tuple[float, ...]
    mean: float
    spread: float | None


@dataclass(frozen=True)
class Verdict:
    """One network's mean accuracy over another's.

    `error` is the difference's standard error, `low` and `high` what the true difference is between, for all we know;
    None: unknown.
    """

    outcome: Finding
    difference: float
    error: float | None = None
    low: float | None = None
    high: float | None = None


def sample_of(values: Sequence[float]) -> Sample | None:
    """The sample of these accuracies; None where there are none."""
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Sample(tuple(values), statistics.fmean(values), spread)


def compare(one: Sample, other: Sample, comparisons: int = 1, pictures: int | None = None) -> Verdict:
    """Whether the means differ by more than seeds and pictures make: Welch's t-test.

    `low` to `high` holds the true difference with probability 1 - LEVEL / comparisons (Bonferroni), so that of so many
    `comparisons` one is wrong with probability LEVEL. The standard error is no smaller than that of a share of
    `pictures`, by which both were judged. Where their number is unknown (None), seeds that all agree tell nothing: the
    difference may be a single picture.
    """
    difference, error = one.mean - other.mean, _error(one, other, pictures)
    if error is None:
        return Verdict("is not told apart from", difference)
    reach = quantile(LEVEL / comparisons, _degrees(one, other)) * error
    low, high = difference - reach, difference + reach
    outcome: Finding = "beats" if low > 0 else "loses to" if high < 0 else "is not told apart from"
    return Verdict(outcome, difference, error, low, high)


def _error(one: Sample, other: Sample, pictures: int | None) -> float | None:
    if one.spread is None or other.spread is None:
        return None
    error = math.sqrt(_variance(one) + _variance(other))
    if pictures is None:
        return error if one.spread and other.spread else None
    share = (one.mean + other.mean) / 2
    return max(error, math.sqrt(share * (1 - share) / pictures)) or None


def _degrees(one: Sample, other: Sample) -> float:
    """Degrees of freedom by Welch and Satterthwaite."""
    parts = [(_variance(sample), len(sample.values) - 1) for sample in (one, other)]
    unsure = sum(variance**2 / degrees for variance, degrees in parts)
    if not unsure:
        return float(sum(degrees for _, degrees in parts))
    return float(sum(variance for variance, _ in parts) ** 2 / unsure)


def _variance(sample: Sample) -> float:
    """Of the mean."""
    assert sample.spread is not None
    return sample.spread**2 / len(sample.values)
