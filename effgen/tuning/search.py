"""Searching one kernel's schedule space: what is known of it, what to measure next, what that may gain.

The spaces are small and mostly additive: what a decision does to the time depends little on the others. So the points
near the best ones, and some from anywhere, are ranked by what their decisions did to the times measured so far.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from effgen.kernels.workload import Workload
from effgen.records.record import DecisionKey, Record, decision_key

if TYPE_CHECKING:  # a Space needs TVM
    from effgen.schedules.space import Space

#: Points whose neighbourhood is searched, points drawn from anywhere to be ranked with them, and the share of
#: candidates that are drawn and not ranked.
_CENTRES, _DRAWN, _EXPLORED = 3, 24, 0.2

#: The share of a kernel's time that the search hopes to save, and what is left of the hope after a vain candidate.
_HOPE, _HOPE_LEFT = 0.25, 0.95

#: A candidate that gave no time counts as this many times the slowest, so that its like come last.
_FAILED = 2.0

#: A kernel without any working candidate is given up after so many.
_PATIENCE = 32

#: A space of more combinations is not listed: so many are drawn, and those admitted stand for it.
_LISTED = 8_000


class KernelSearch:
    """The search for one kernel, called `calls` times in a network. `seed` makes it repeatable.

    `points` is the number of candidates: of a large space, of those that were drawn from it. `today` are the decisions
    to beat, those that a network is compiled with as things are: the space's default, unless `begin_from` says others.
    `best` is the fastest one that is known to be faster than them, or their own record.
    """

    def __init__(self, workload: Workload, calls: int, space: Space, seed: int = 0) -> None:
        self.workload = workload
        self.calls = calls
        self.space = space
        self.today: dict[str, int] = dict(space.default)
        self.best: Record | None = None
        self.measured = 0
        self._known: dict[DecisionKey, Record] = {}
        self._ahead: set[DecisionKey] = set()
        self._elsewhere: set[DecisionKey] = set()
        self._vain = 0
        self._hints: list[dict[str, int]] = []
        self._random = random.Random(f"{seed} {workload.name}")
        self._unvisited = self._points()
        self.points = len(self._unvisited)

    def learn(self, record: Record, fresh: bool = True) -> None:
        """Take a record of this kernel in, the last one of a candidate; not `fresh`: it is no new candidate."""
        key = decision_key(record.decisions)
        again = self.best is not None and key == decision_key(self.best.decisions)  # the best one, timed once more
        self._known[key] = record
        self._ahead.discard(key)
        self.measured += fresh
        if not again:
            self._vain = 0 if record.leads else self._vain + 1
        self.best = self._fastest()

    def begin_from(self, decisions: Mapping[str, int]) -> None:
        """Say what a network is compiled with today; it is measured first, as the rule's default is soon after."""
        self.today = dict(decisions)
        self.best = self._fastest()

    def hint(self, decisions: Mapping[str, int]) -> None:
        """Decisions to be measured early: they were good elsewhere."""
        if self.space.contains(decisions):
            self._hints.append(dict(decisions))

    def knows(self, decisions: Mapping[str, int]) -> bool:
        """Whether this candidate was measured, whatever became of it."""
        return decision_key(decisions) in self._known

    def record_of(self, decisions: Mapping[str, int]) -> Record | None:
        """What is known of this candidate."""
        return self._known.get(decision_key(decisions))

    @property
    def incumbent(self) -> Record | None:
        """What is known of today's decisions, where they work."""
        record = self.record_of(self.today)
        return record if record is not None and record.status == "ok" else None

    @property
    def chosen(self) -> Record | None:
        """The fastest record that may be chosen."""
        return min((record for record in self._known.values() if record.chosen), key=_time_s, default=None)

    @property
    def started(self) -> bool:
        """Whether today's decisions were measured."""
        return self.knows(self.today)

    @property
    def improved(self) -> bool:
        """Whether something better than today's decisions is known."""
        return self.best is not None and decision_key(self.best.decisions) != decision_key(self.today)

    @property
    def exhausted(self) -> bool:
        """Whether every candidate is known."""
        self._drop_known()
        return not self._unvisited and all(self.knows(hint) for hint in self._first)

    @property
    def expected_gain_s(self) -> float:
        """Seconds of the network's latency that further candidates may save; less with every vain one."""
        if self.exhausted:
            return 0.0
        if self.best is None:  # today's decisions failed: anything that works is a gain
            return math.inf if self._vain < _PATIENCE else 0.0
        return self.calls * self.best.time_s * _HOPE * _HOPE_LEFT**self._vain

    def propose(self) -> dict[str, int] | None:
        """The next candidate to measure: never one that is known; None where all are."""
        for hint in self._first:
            if self._is_open(hint):
                return hint
        self._drop_known()
        drawn = [point for point in self._unvisited[-_DRAWN:] if self._is_open(point)]
        if drawn and self._random.random() < _EXPLORED:
            return drawn[-1]
        pool = [*self._near_the_best(), *drawn]
        if not pool:
            return next((point for point in self._unvisited if self._is_open(point)), None)
        predict = _Model(self._known.values())
        return min(pool, key=lambda point: predict(point.items()))

    def propose_free(self, claim: Callable[[Mapping[str, int]], bool]) -> dict[str, int] | None:
        """The next candidate that `claim` grants; None where nothing is left, or others are at all that is.

        Today's decisions come first, alone: while another tuner measures them nothing else can be compared.
        """
        if not self.started:
            return dict(self.today) if claim(self.today) else None
        self._elsewhere.clear()
        while (found := self.propose()) is not None and not claim(found):
            self._elsewhere.add(decision_key(found))
        self._elsewhere.clear()
        return found

    def propose_ahead(self) -> dict[str, int] | None:
        """A candidate to be measured elsewhere, before anything is known of those proposed so earlier: another one
        each time. While there are no times to rank by it is the hints, then what is drawn near them."""
        timed = any(record.status == "ok" for record in self._known.values())
        found = self.propose() if timed or any(map(self._is_open, self._first)) else self._drawn_near_hints()
        if found is not None:
            self._ahead.add(decision_key(found))
        return found

    @property
    def _first(self) -> list[dict[str, int]]:
        """What is measured before anything is ranked."""
        return [self.today, dict(self.space.default), *self._hints]

    def _fastest(self) -> Record | None:
        today = decision_key(self.today)
        known = (record for key, record in self._known.items() if record.leads or (key == today and record.seconds))
        return min(known, key=_time_s, default=None)

    def _drawn_near_hints(self) -> dict[str, int] | None:
        near = [point for hint in self._first for point in self.space.neighbours(hint) if self._is_open(point)]
        if not near or self._random.random() < _EXPLORED:
            return self.propose()
        return self._random.choice(near)

    def _is_open(self, decisions: Mapping[str, int]) -> bool:
        """Whether the candidate is neither known nor proposed ahead, nor measured by another tuner just now."""
        key = decision_key(decisions)
        return key not in self._known and key not in self._ahead and key not in self._elsewhere

    def _points(self) -> list[dict[str, int]]:
        """The whole space in random order; of a large one as many points as drawing finds."""
        axes = self.space.axes
        if math.prod(len(values) for values in axes.values()) <= _LISTED:
            points = list(self.space.points())
            self._random.shuffle(points)
            return points
        drawn = ({name: self._random.choice(values) for name, values in axes.items()} for _ in range(_LISTED))
        return list({decision_key(point): point for point in drawn if self.space.admits(point)}.values())

    def _near_the_best(self) -> Iterator[dict[str, int]]:
        timed = [record for record in self._known.values() if record.status == "ok"]
        for record in sorted(timed, key=_time_s)[:_CENTRES]:
            for point in self.space.neighbours(record.decisions):
                if self._is_open(point):
                    yield point

    def _drop_known(self) -> None:
        while self._unvisited and not self._is_open(self._unvisited[-1]):
            self._unvisited.pop()


def _time_s(record: Record) -> float:
    return record.time_s


class _Model:
    """log(seconds) as a sum of what each decision's value adds: a mean, drawn towards 0 where there is little data."""

    def __init__(self, records: Iterable[Record]) -> None:
        known = list(records)
        times = [math.log(record.time_s) for record in known if record.status == "ok"]
        worst = max(times, default=0.0) + math.log(_FAILED)
        values = [math.log(record.time_s) if record.status == "ok" else worst for record in known]
        mean = sum(values) / len(values) if values else 0.0
        sums: dict[tuple[str, int], float] = defaultdict(float)
        counts: dict[tuple[str, int], int] = defaultdict(int)
        for record, value in zip(known, values, strict=True):
            for item in record.decisions.items():
                sums[item] += value - mean
                counts[item] += 1
        self._effects = {item: total / (counts[item] + 1) for item, total in sums.items()}

    def __call__(self, decisions: Iterable[tuple[str, int]]) -> float:
        return sum(self._effects.get(item, 0.0) for item in decisions)
