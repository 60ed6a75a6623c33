"""The largest network of a line that keeps within all bounds, whatever costs what.

Estimates propose, measurements decide: a network that is proposed is measured where that can be done, its neighbours
are estimated anew by the ratio that was found there, and the next one is proposed. Only what was measured is taken, and
that twice where a latency is near its limit: among many noisy times the one that just fits is likely too short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias

from effgen.errors import BudgetError
from effgen.method.budget.limits import Limit
from effgen.method.budget.line import STEPS, Line, Rung

#: Where a number comes from. `exact` and `planned` ones are right before anything is compiled.
How = Literal["exact", "planned", "estimated", "predicted", "measured"]

#: Close enough under a limit: within 5%.
CLOSE = 0.95
# Then a larger network is tried only if it is expected to stay so far below.
_OBVIOUS = 0.99
# So far below a limit one measurement says enough.
_SAFE = 0.9
# Networks measured at most.
_TRIES = 8
# Larger networks looked at beyond the first that does not fit: costs of a machine may fall as phi grows, a channel
# count that fills the vectors say.
_BEYOND = 16
# First step of phi away from where the search starts.
_REACH = STEPS // 2


@dataclass(frozen=True)
class Bound:
    """A limit on one machine (`target` None: on the network itself). `estimate` gives what a network costs there.

    `measurable`: whether the search may have it measured. `grows`: whether it never falls along the line.
    """

    limit: Limit
    target: str | None
    how: How
    estimate: Callable[[Rung], float]
    measurable: bool = False
    grows: bool = False


#: Measured values of those bounds that can be.
MeasureRung: TypeAlias = Callable[[Rung], Mapping[Bound, float]]


@dataclass(frozen=True)
class Cost:
    """What a network costs by one bound, and how that is known."""

    bound: Bound
    value: float
    how: How

    @property
    def share(self) -> float:
        """Part of what is allowed."""
        return self.value / self.bound.limit.most

    @property
    def text(self) -> str:
        """E.g. `21.3ms on cpu (predicted)`."""
        on = "" if self.bound.target is None else f" on {self.bound.target}"
        return f"{self.bound.limit.written(self.value)}{on} ({self.how})"

    @property
    def kept(self) -> bool:
        return self.value <= self.bound.limit.most


class Search:
    """`measure` None: estimates decide. `measured`: medians of what was found; `gave_up`: whether the search ended
    because it had measured as many networks as it may."""

    def __init__(self, line: Line, bounds: Sequence[Bound], measure: MeasureRung | None = None) -> None:
        self.line = line
        # What is cheap to know is asked first.
        self.bounds = sorted(bounds, key=lambda bound: not bound.grows)
        self.measure = measure
        self.measured: dict[Rung, Mapping[Bound, float]] = {}
        self.gave_up = False
        self._found: dict[Rung, list[Mapping[Bound, float]]] = {}

    def run(self) -> Rung:
        """The largest network within all bounds. Raises BudgetError where the smallest one is not."""
        smallest = self.line.rung(self.line.low)
        while True:
            found = self._largest()
            if found is None:
                self.check_possible(smallest)
            rung = found or smallest
            if not self._measurable:
                return rung
            if rung not in self.measured and len(self.measured) == _TRIES:
                return self._best_so_far()
            if self._is_settled(rung):
                return rung
            self._measure(rung)

    def _best_so_far(self) -> Rung:
        self.gave_up = True
        while (best := self._best_measured()) is not None and not self._is_settled(best):
            self._measure(best)
        if best is None:
            missed = ", ".join(dict.fromkeys(bound.limit.option for bound in self.bounds if bound.measurable))
            raise BudgetError(f"{missed}: none of {_TRIES} networks was measured to fit: is the machine busy?")
        return best

    def _measure(self, rung: Rung) -> None:
        assert self.measure is not None
        found = self._found.setdefault(rung, [])
        found.append(dict(self.measure(rung)))
        self.measured[rung] = {bound: median(values[bound] for values in found) for bound in found[0]}

    def _is_settled(self, rung: Rung) -> bool:
        """Whether the network was measured as often as it takes to be believed."""
        near = any(
            bound.limit.kind == "latency" and value > _SAFE * bound.limit.most
            for bound, value in self.measured.get(rung, {}).items()
        )
        return len(self._found.get(rung, [])) >= (2 if near else 1)

    def costs(self, rung: Rung) -> list[Cost]:
        """By every bound."""
        return [self.cost(bound, rung) for bound in self.bounds]

    def cost(self, bound: Bound, rung: Rung) -> Cost:
        """As measured, else as estimated and corrected by what was measured nearest."""
        found = self.measured.get(rung, {}).get(bound)
        if found is not None:
            return Cost(bound, found, "measured")
        return Cost(bound, bound.estimate(rung) * self._correction(bound, rung), bound.how)

    def fits(self, rung: Rung) -> bool:
        """Whether the network is within all bounds as far as is known."""
        return all(self.cost(bound, rung).kept for bound in self.bounds)

    @property
    def _measurable(self) -> bool:
        return self.measure is not None and any(bound.measurable for bound in self.bounds)

    def _correction(self, bound: Bound, rung: Rung) -> float:
        known = [other for other, values in self.measured.items() if bound in values]
        if not known:
            return 1.0
        nearest = min(known, key=lambda other: abs(other.first - rung.first))
        return self.measured[nearest][bound] / bound.estimate(nearest)

    def _best_measured(self) -> Rung | None:
        fitting = [rung for rung in self.measured if self.fits(rung)]
        return max(fitting, key=lambda rung: rung.first, default=None)

    def _largest(self) -> Rung | None:
        """The largest network worth taking or trying; None where not even the smallest is."""
        best = self._best_measured()
        most = self._allowed_share(best)

        def worth(rung: Rung) -> bool:
            return all(self._worth(bound, rung, most) for bound in self.bounds)

        good = self._start(worth, best)
        while good is not None:
            last = self._last_in_a_row(good, worth)
            good = next(filter(worth, self._shortly_after(last)), None)
            if good is None:
                return last
        return None

    def _worth(self, bound: Bound, rung: Rung, most: float) -> bool:
        cost = self.cost(bound, rung)
        guessed = self.measure is not None and bound.measurable and cost.how != "measured"
        return cost.share <= (most if guessed else 1.0)

    def _allowed_share(self, best: Rung | None) -> float:
        """What share of a limit a network may be expected to take to be tried: each one that was too much, with none
        that fits yet, makes the next try more careful; and beyond one that is close only an obvious one is worth it."""
        if best is None:
            return 1 - (1 - _OBVIOUS) * len(self.measured)
        return _OBVIOUS if max(cost.share for cost in self.costs(best)) >= CLOSE else 1.0

    def _start(self, worth: Callable[[Rung], bool], best: Rung | None) -> Rung | None:
        """A network that is worth it: `best`, or the baseline, or a smaller one, by longer and longer steps of phi."""
        low, reach = self.line.low, _REACH
        rung = best or self.line.rung(min(max(0, low), self.line.high))
        while not worth(rung):
            if rung.first == low:
                return None
            rung, reach = self.line.rung(max(rung.first - reach, low)), reach * 2
        return rung

    def _last_in_a_row(self, good: Rung, worth: Callable[[Rung], bool]) -> Rung:
        """The last one from `good` on that is worth it, if those are a row without gaps."""
        high, reach, bad = self.line.high, _REACH, None
        while bad is None and good.last < high:
            further = self.line.rung(min(good.last + reach, high))
            good, bad, reach = (further, None, reach * 2) if worth(further) else (good, further, reach)
        while bad is not None and bad.first > good.last + 1:
            middle = self.line.rung((good.last + bad.first) // 2)
            good, bad = (middle, bad) if worth(middle) else (good, middle)
        return good

    def _shortly_after(self, rung: Rung) -> Iterator[Rung]:
        """The networks behind it, as far as none is beyond a limit that the next ones would break too."""
        for _ in range(_BEYOND):
            above = self.line.above(rung)
            if above is None or not all(self.cost(bound, above).kept for bound in self.bounds if bound.grows):
                return
            rung = above
            yield rung

    def check_possible(self, smallest: Rung) -> None:
        """Raise BudgetError where the smallest network is over a bound that nothing more will be known about."""
        over = [cost for cost in self.costs(smallest) if not cost.kept]
        settled = [cost for cost in over if self.measure is None or not cost.bound.measurable or cost.how == "measured"]
        if settled:
            broken = "; ".join(f"{cost.bound.limit.option}: {cost.text}" for cost in settled)
            raise BudgetError(f"not even the smallest network, phi {smallest.text}, fits: {broken}; allow more of it")
