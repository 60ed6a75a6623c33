"""The compound line of a baseline: the networks that phi runs through under the law "formula" (paper, equation 3).

Channels, repeats and pixels are whole numbers, so the line is a row of networks, each of them a stretch of phi. No
scaled number falls as phi grows, which makes the ends of a stretch a matter of bisection. phi is counted in millionths:
an end is exact to them, and printed with its six decimals it gives the very same network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from effgen.errors import SpecError
from effgen.network.scaling import MAX_PHI, Coefficients, Overrides, coefficients_for, scale
from effgen.network.spec import NetworkSpec

#: Steps of phi for each 1.
STEPS = 1_000_000

_MOST = round(MAX_PHI * STEPS)


@dataclass(frozen=True)
class Rung:
    """One network of the line: phi from `first` to `last` millionths, both included."""

    first: int
    last: int

    @property
    def phi(self) -> float:
        """The largest phi of this network."""
        return self.last / STEPS

    @property
    def text(self) -> str:
        """`phi` as the command line takes it."""
        return phi_text(self.phi)


def phi_text(phi: float) -> str:
    """A whole number of millionths as 1.236774, without zeros that say nothing."""
    text = f"{phi:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


class Line:
    """The networks of `baseline` for phi from `low` to `high` millionths, where they exist."""

    def __init__(
        self,
        baseline: NetworkSpec,
        overrides: Overrides | None = None,
        min_phi: float | None = None,
        max_phi: float | None = None,
    ) -> None:
        """None: as far as there are networks. Raises SpecError for a phi beyond that, and for a range of nothing."""
        self.baseline = baseline
        self.overrides = overrides or Overrides()
        self.low = (
            -_last(lambda step: self._exists(-step), _MOST)
            if min_phi is None
            else self._end("--min-phi", min_phi, math.ceil)
        )
        self.high = _last(self._exists, _MOST) if max_phi is None else self._end("--max-phi", max_phi, math.floor)
        if min_phi is not None and max_phi is not None and self.low > self.high:
            expected = "at most" if min_phi > max_phi else "a millionth or more below"
            raise SpecError(f"--min-phi {min_phi:.12g}: expected {expected} --max-phi {max_phi:.12g}")
        self._rungs: dict[int, Rung] = {}

    def coefficients(self, step: int) -> Coefficients:
        """What the formula makes of phi."""
        return coefficients_for(self.baseline, step / STEPS, "formula")

    def spec(self, step: int) -> NetworkSpec:
        """The scaled spec at phi."""
        return scale(self.baseline, self.coefficients(step), self.overrides)

    def rung(self, step: int) -> Rung:
        """The network at phi, with all of its phi inside the line."""
        spec = self.spec(step)

        def same(other: int) -> bool:
            return self.spec(other) == spec

        first = step - _last(lambda back: same(step - back), step - self.low)
        if first not in self._rungs:
            self._rungs[first] = Rung(first, step + _last(lambda ahead: same(step + ahead), self.high - step))
        return self._rungs[first]

    def below(self, rung: Rung) -> Rung | None:
        """The next smaller network; None at the end."""
        return self.rung(rung.first - 1) if rung.first > self.low else None

    def above(self, rung: Rung) -> Rung | None:
        """The next larger network; None at the end."""
        return self.rung(rung.last + 1) if rung.last < self.high else None

    def _exists(self, step: int) -> bool:
        try:
            self.spec(step)
        except SpecError:
            return False
        return True

    def _end(self, option: str, phi: float, whole: Callable[[float], int]) -> int:
        if not (math.isfinite(phi) and abs(phi) <= MAX_PHI):
            raise SpecError(f"{option} {phi:g}: expected a number from {-MAX_PHI:g} to {MAX_PHI:g}")
        step = whole(round(phi * STEPS, 3))  # 1.1 is no whole number of millionths in binary
        try:
            self.spec(step)
        except SpecError as error:
            raise SpecError(f"{option} {phi:g}: {error}") from None
        return step


def _last(holds: Callable[[int], bool], most: int) -> int:
    """The largest n from 0 to `most` with `holds(n)`, which is true up to there and false from there on."""
    good, bad, reach = 0, most + 1, 1
    while good + reach < bad:
        if not holds(good + reach):
            bad = good + reach
            break
        good, reach = good + reach, reach * 2
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good
