"""A kernel's schedule space: the decisions that may be taken for one workload on one machine, and a good default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Protocol

from tvm.tirx import PrimFunc

#: The decision that only schedules of MetaSchedule's have (`effgen.schedules.traces`).
TRACE = "metaschedule"

# One value for every decision of a space, by name: what a tuning record stores.
Decisions = Mapping[str, int]


class HasTraces(Protocol):
    """What a space needs of `effgen.schedules.traces.Traces`."""

    def contains(self, decisions: Decisions) -> bool:
        """Whether the decisions are of this kernel's sketches."""

    def build(self, decisions: Decisions) -> PrimFunc:
        """The scheduled kernel; raises ValueError where they cannot be carried out."""


@dataclass(frozen=True)
class Space:
    """`axes` lists the candidates of every decision, `default` the values taken without tuning (they are candidates).

    `admits` says whether a combination makes sense (registers, caches); `build` gives its scheduled PrimFunc, named
    like the workload. Every admitted combination computes the same function. `cycles` estimates what the busiest core
    needs for a combination; None where the rule has no estimate.

    `traces`: what MetaSchedule may find for the same kernel. Its candidates are contained and built like the others,
    and have decisions of their own names; they are no points of the space, and near none.

    `added`: decisions that records from before there were any lack, and what such records are taken to say, here and
    wherever else decisions are given.
    """

    rule: str
    axes: Mapping[str, tuple[int, ...]]
    default: Decisions
    build: Callable[[Decisions], PrimFunc]
    admits: Callable[[Decisions], bool] = lambda decisions: True
    cycles: Callable[[Decisions], float] | None = None
    traces: HasTraces | None = None
    added: Decisions = field(default_factory=dict)

    def completed(self, decisions: Decisions) -> Decisions:
        """The decisions with those that a record is too old to have."""
        return decisions if TRACE in decisions else {**self.added, **decisions}

    def kernel(self, decisions: Decisions) -> PrimFunc:
        """The scheduled kernel of a point, or of a trace. Raises ValueError for a trace that cannot be carried out."""
        if TRACE not in decisions:
            return self.build(self.completed(decisions))
        if self.traces is None:
            raise ValueError("the kernel has no plain definition for MetaSchedule")
        return self.traces.build(decisions)

    def contains(self, decisions: Decisions) -> bool:
        """Whether `decisions` name every axis, with one of its candidates each, in an admitted combination; or are of
        a trace."""
        if TRACE in decisions:
            return self.traces is not None and self.traces.contains(decisions)
        decisions = self.completed(decisions)
        if decisions.keys() != self.axes.keys():
            return False
        return all(decisions[name] in values for name, values in self.axes.items()) and self.admits(decisions)

    def builds(self, decisions: Decisions) -> bool:
        """Whether decisions that it contains make a kernel: those of a trace are carried out to know it."""
        try:
            return TRACE not in decisions or bool(self.kernel(decisions))
        except ValueError:
            return False

    def points(self) -> Iterator[dict[str, int]]:
        """Every admitted combination."""
        for values in product(*self.axes.values()):
            decisions = dict(zip(self.axes, values, strict=True))
            if self.admits(decisions):
                yield decisions

    def neighbours(self, decisions: Decisions) -> Iterator[dict[str, int]]:
        """Every admitted combination that differs in one decision, the nearest values of it first; none of a trace."""
        if TRACE in decisions:
            return
        decisions = self.completed(decisions)
        for name, values in self.axes.items():
            here = values.index(decisions[name])
            for value in sorted(values, key=lambda v: abs(values.index(v) - here)):
                other = {**decisions, name: value}
                if value != decisions[name] and self.admits(other):
                    yield other
