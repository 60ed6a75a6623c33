"""What each dimension alone has to become for a given number of multiply-adds, and what all three together.

Channels, repeats and pixels are whole numbers, so multiply-adds climb in steps as a multiplier grows: the nearest step
is taken, and the multiplier is the shortest decimal number on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

from effgen.errors import SpecError
from effgen.method.budget.paper_tables import Dimension
from effgen.network import Network, NetworkRequest, build_network
from effgen.network.scaling import MAX_MULTIPLIER, MAX_PHI, MAX_RESOLUTION, Overrides
from effgen.network.spec import load_spec
from effgen.network.steps import around_step

#: Beyond it depth alone makes thousands of layers; a typing error is the likelier explanation.
MAX_FACTOR = 64.0

#: Halvings of a multiplier's range: finer than any rounding.
_HALVINGS = 24


def networks_of_equal_macs(spec: str, factor: float) -> Mapping[Dimension, Network]:
    """The baseline `spec` (a family's name or a path), and it scaled to `factor` times its multiply-adds in four ways:
    by depth, width and resolution alone, and by all three along the spec's compound line (alpha, beta, gamma).

    Where a dimension has no step close to it, or cannot reach it, the network is the nearest there is. Raises
    SpecError: a factor that is none, a spec that makes no network, or one whose compound line leads nowhere.
    """
    if not 1 < factor <= MAX_FACTOR:
        raise SpecError(f"--factor {factor:g}: expected a number above 1, up to {MAX_FACTOR:g}")
    law = load_spec(spec).scaling
    if law.alpha * law.beta * law.gamma == 1:
        raise SpecError(f"--spec {spec}: scaling.alpha, beta and gamma are 1: expected one of them larger")
    baseline = build_network(NetworkRequest(spec))

    def scaled(overrides: Overrides) -> Network:
        return build_network(NetworkRequest(spec, overrides=overrides))

    def along_the_line(phi: float) -> Network:
        return build_network(NetworkRequest(spec, repr(phi), "formula"))

    side = baseline.coefficients.resolution
    ways: dict[Dimension, tuple[Callable[[float], Network], float, float]] = {
        "depth": (lambda depth: scaled(Overrides(depth=depth)), 1.0, MAX_MULTIPLIER),
        "width": (lambda width: scaled(Overrides(width=width)), 1.0, MAX_MULTIPLIER),
        "resolution": (lambda pixels: scaled(Overrides(resolution=round(pixels))), side, MAX_RESOLUTION),
        "compound": (along_the_line, 0.0, MAX_PHI),
    }
    wanted = factor * baseline.graph.macs
    found: dict[Dimension, Network] = {"baseline": baseline}
    for dimension, (network, low, high) in ways.items():
        found[dimension] = network(nearest_step(_macs_of(network), wanted, low, high))
    return found


def _macs_of(network: Callable[[float], Network]) -> Callable[[float], float]:
    """Multiply-adds; infinity beyond the largest network: a dimension may end before the bounds of its multiplier."""

    @cache
    def macs(value: float) -> float:
        try:
            return network(value).graph.macs
        except SpecError:
            return math.inf

    return macs


def nearest_step(macs: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """The shortest decimal number in [low, high] at which the step function `macs`, which never falls, is nearest to
    `wanted`; at `low` it is below that. Infinity is never near."""
    below, above = _bracket(macs, wanted, low, high)
    if macs(above) < wanted:
        return _shortest(macs, above, math.floor)
    below, above = around_step(macs, wanted, below, above, _HALVINGS)
    if wanted - macs(below) < macs(above) - wanted:
        return _shortest(macs, below, math.floor)
    return _shortest(macs, above, math.ceil)


def _bracket(macs: Callable[[float], float], wanted: float, low: float, high: float) -> tuple[float, float]:
    """Two numbers around the step at `wanted`, the upper one not much larger than needed: large networks take time."""
    below, above = low, min(high, max(2 * low, 1.0))
    while macs(above) < wanted and above < high:
        below, above = above, min(high, 2 * above)
    return below, above


def _shortest(macs: Callable[[float], float], value: float, toward: Callable[[float], int]) -> float:
    """`value` with as few decimals as its step allows, rounded away from the step's edge."""
    for decimals in range(7):
        scale = 10.0**decimals
        rounded = toward(value * scale) / scale
        if macs(rounded) == macs(value):
            return rounded
    return value
