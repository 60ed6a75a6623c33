"""A kernel's schedule space: the decisions that may be taken for one workload on one machine, and a good default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from tvm.tirx import PrimFunc

# One value for every decision of a space, by name: what a tuning record stores.
Decisions = Mapping[str, int]


@dataclass(frozen=True)
class Space:
    """`axes` lists the candidates of every decision, `default` the values taken without tuning (they are candidates).

    `admits` says whether a combination makes sense (registers, caches); `build` gives its scheduled PrimFunc, named
    like the workload. Every admitted combination computes the same function. `cycles` estimates what the busiest core
    needs for a combination; None where the rule has no estimate.
    """

    rule: str
    axes: Mapping[str, tuple[int, ...]]
    default: Decisions
    build: Callable[[Decisions], PrimFunc]
    admits: Callable[[Decisions], bool] = lambda decisions: True
    cycles: Callable[[Decisions], float] | None = None

    def contains(self, decisions: Decisions) -> bool:
        """Whether `decisions` name every axis, with one of its candidates each, in an admitted combination."""
        if decisions.keys() != self.axes.keys():
            return False
        return all(decisions[name] in values for name, values in self.axes.items()) and self.admits(decisions)

    def points(self) -> Iterator[dict[str, int]]:
        """Every admitted combination."""
        for values in product(*self.axes.values()):
            decisions = dict(zip(self.axes, values, strict=True))
            if self.admits(decisions):
                yield decisions

    def neighbours(self, decisions: Decisions) -> Iterator[dict[str, int]]:
        """Every admitted combination that differs in one decision, the nearest values of it first."""
        for name, values in self.axes.items():
            here = values.index(decisions[name])
            for value in sorted(values, key=lambda v: abs(values.index(v) - here)):
                other = {**decisions, name: value}
                if value != decisions[name] and self.admits(other):
                    yield other
