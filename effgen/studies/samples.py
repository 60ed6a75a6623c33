"""Accuracies of the same network with several seeds, and whether two networks can be told apart by them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["beats", "loses to", "is not told apart from"]

#: A difference of so many standard errors is believed.
BELIEVED_ERRORS = 2.0


@dataclass(frozen=True)
class Sample:
    """Accuracies, 0..1, one a seed: their mean and spread (standard deviation of one seed; None: of one seed alone)."""

    values: tuple[float, ...]
    mean: float
    spread: float | None


@dataclass(frozen=True)
class Comparison:
    """One network's mean accuracy over another's. `error` is the difference's standard error, None: unknown."""

    outcome: Outcome
    difference: float
    error: float | None


def sample_of(values: Sequence[float]) -> Sample | None:
    """The sample of these accuracies; None where there are none."""
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Sample(tuple(values), statistics.fmean(values), spread)


def compare(one: Sample, other: Sample) -> Comparison:
    """Whether the means differ by more than seeds do: by more than twice the difference's standard error."""
    difference = one.mean - other.mean
    if one.spread is None or other.spread is None:
        return Comparison("is not told apart from", difference, None)
    error = math.sqrt(one.spread**2 / len(one.values) + other.spread**2 / len(other.values))
    if abs(difference) <= BELIEVED_ERRORS * error or difference == 0:
        return Comparison("is not told apart from", difference, error)
    return Comparison("beats" if difference > 0 else "loses to", difference, error)
