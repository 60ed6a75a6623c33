"""Seconds of kernels that nobody measured, from those of kernels that somebody did.

For each group of kernels: seconds = sum of price * amount over what a call has to do (`effgen.method.latency.work`),
with prices of 0 or more, fitted to the machine's own times: so more work never takes less time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effgen.method.latency.work import Work

Floats = NDArray[np.float64]

#: A group with fewer kernels gets the prices of all kernels together, which say nothing of cycles.
MIN_KERNELS = 6

_FIT_ROUNDS = 20
#: Times further off than so many median errors count less.
_OUTLIER = 3.0
#: No call takes less, seconds.
_LEAST_S = 1e-8


@dataclass(frozen=True)
class TimedKernel:
    """A kernel whose time is known, seconds a call."""

    work: Work
    seconds: float


class Estimator:
    """Fitted to `samples`, at least one; estimates seconds of any work."""

    def __init__(self, samples: Sequence[TimedKernel]) -> None:
        groups: dict[str, list[TimedKernel]] = {}
        for sample in samples:
            groups.setdefault(sample.work.group, []).append(sample)
        self._prices = {name: _prices(group) for name, group in groups.items() if len(group) >= MIN_KERNELS}
        self._any = _prices(samples, with_cycles=False)

    def seconds(self, work: Work) -> float:
        """Of one call."""
        prices = self._prices.get(work.group, self._any)
        return max(float(np.array(work.amounts) @ prices), _LEAST_S)


def _prices(samples: Sequence[TimedKernel], with_cycles: bool = True) -> Floats:
    """Seconds of each of a call's amounts; of a cycle 0 where the samples' cycles are not to be compared."""
    amounts = np.array([sample.work.amounts for sample in samples], np.float64)
    if not with_cycles:
        amounts[:, :2] = 0.0
    return fitted_prices(amounts, np.array([sample.seconds for sample in samples]))


def fitted_prices(amounts: Floats, seconds: Floats) -> Floats:
    """Prices of at least 0 for which amounts (kernels, kinds) @ prices come near `seconds`, relatively, outliers apart.

    Errors are taken relative to the fitted times, not the measured ones: those would draw every price down, since
    nothing can be too short by more than all of it.
    """
    fitted: Floats = seconds
    trust = np.ones_like(seconds)
    for _ in range(_FIT_ROUNDS):
        weight = np.sqrt(trust) / fitted
        prices = nonnegative_solution(amounts * weight[:, None], seconds * weight)
        fitted = np.maximum(amounts @ prices, _LEAST_S)
        error = np.abs(seconds / fitted - 1)
        trust = 1 / np.maximum(1, error / (_OUTLIER * np.median(error) + 1e-9))
    return prices


def nonnegative_solution(matrix: Floats, right: Floats) -> Floats:
    """x >= 0 of least |matrix x - right| (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23)."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    a = matrix / scale
    x = np.zeros(a.shape[1])
    free = np.zeros(a.shape[1], bool)
    for _ in range(3 * a.shape[1]):
        gradient = np.where(free, -np.inf, a.T @ (right - a @ x))
        best = int(np.argmax(gradient))
        if gradient[best] <= 1e-10 * np.linalg.norm(right):
            break
        free[best] = True
        x = _solved_within(a, right, x, free)
    solution: Floats = x / scale
    return solution


def _solved_within(a: Floats, right: Floats, x: Floats, free: NDArray[np.bool_]) -> Floats:
    """The least-squares solution in the `free` columns; those that would turn negative are bound to 0 on the way."""
    while True:
        solution = np.zeros_like(x)
        solution[free] = np.linalg.lstsq(a[:, free], right, rcond=None)[0]
        negative = free & (solution <= 0)
        if not negative.any():
            return solution
        step = np.min(x[negative] / (x[negative] - solution[negative]))
        x = x + step * (solution - x)
        free &= x > 1e-15
