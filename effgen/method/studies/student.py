"""Quantiles of Student's t distribution, also for degrees of freedom that are no whole number (Welch's test)."""

from __future__ import annotations

import math

import numpy as np

#: Gauss-Legendre's rule; the integrand is smooth, and no narrower than 1 / sqrt(degrees).
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)

_HALVINGS = 50


def quantile(share: float, degrees: float) -> float:
    """The t that |T| is above with probability `share`, in (0, 1); `degrees` of freedom from 1 to some thousands.

    With T = sqrt(degrees) tan(angle), the angle's density is in proportion to cos(angle)^(degrees - 1).
    """
    half_whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2))
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        angle = (low + high) / 2
        if 1 - _integral(angle, degrees) / half_whole > share:
            low = angle
        else:
            high = angle
    return math.sqrt(degrees) * math.tan(low)


def _integral(angle: float, degrees: float) -> float:
    """Of cos^(degrees - 1) from 0 to `angle`."""
    at = angle / 2 * (_NODES + 1)
    return float(angle / 2 * (_WEIGHTS @ np.cos(at) ** (degrees - 1)))
