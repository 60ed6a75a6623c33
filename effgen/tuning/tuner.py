"""The tuner's loop: which kernel is measured next, what becomes of it, and when to stop.

    what kernels are compiled with today -> batches for the kernel with the largest expected gain -> a last look

The last look is a long comparison of what won with what is there today, in a loop, where nobody compares them inside
the network afterwards (`confirm`); only what it confirms is ever chosen.

Every outcome is in the database before its measurer gets the next candidate: a run that is stopped, however it is,
loses at most one for each, and the next run goes on where it stood. Several measurers, each for a device of its own,
work side by side on different kernels. Records of one kernel may so come from several devices: equal ones, since they
answer to the same key, and what a device measures is the ratio of two candidates, both on it. Tuners that share a
database claim a candidate before they measure it, and learn what the others find.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

from effgen.machines.machine import Machine
from effgen.measure.carried.candidate import Outcome
from effgen.measure.carried.timing import CHANCE, Timing, chance_of
from effgen.measure.lanes import LATER, Job, Lanes, Later, Measures
from effgen.records.database import RecordFile
from effgen.records.lookup import RecordSource
from effgen.records.record import Record
from effgen.tuning.ledger import Ledger
from effgen.tuning.search import KernelSearch

#: Candidates measured for one kernel before it is decided again which kernel is next.
BATCH = 8

#: The search ends where no kernel may save this share of the network's latency.
_WORTH_IT = 2e-4

#: Seconds that the last long look takes a kernel; kept back from a time limit.
_CHECK_S = 1.0

Phase = Literal["today", "search", "check"]
End = Literal["trials", "time", "converged", "interrupted", "round"]


@dataclass(frozen=True)
class Limits:
    """When to stop: after so many candidates, after so many seconds; None: when little more is to be gained."""

    trials: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a candidate: of which kernel, what became of it, whether it is the best now.

    `left_s` is None without a limit. `latency_s` is the sum of the best times over all calls of the kernels measured
    so far, `before_s` that of what they are compiled with today; `started` of `kernels` have been measured at all.
    """

    phase: Phase
    kernel: str
    record: Record
    trials: int
    kernels: int
    started: int
    elapsed_s: float
    left_s: float | None
    before_s: float
    latency_s: float


OnProgress = Callable[[Progress], None]


class Tuner:
    """One run over the kernels of a network. `end` says why it ended; `checked` holds what the last look said of the
    winners that it confirmed, by kernel. There is no such look where `last_look` is False."""

    def __init__(
        self,
        searches: Sequence[KernelSearch],
        machine: Machine,
        measurers: Sequence[Measures],
        file: RecordFile,
        limits: Limits = Limits(),
        sources: Iterable[RecordSource] = (),
        on_progress: OnProgress = lambda progress: None,
        last_look: bool = True,
    ) -> None:
        self.ledger = Ledger(searches, machine, file)
        self.ledger.begin_from(sources)
        self.end: End = "converged"
        self.checked: dict[str, Timing] = {}
        self.elapsed_s = 0.0
        self._searches = searches
        self._measurers = measurers
        self._limits = limits
        self._on_progress = on_progress
        self._last_look = last_look
        self._phase: Phase = "today"
        self._waiting: list[KernelSearch] = []
        self._busy: set[str] = set()
        self._elsewhere = False
        self._batches: dict[int, tuple[KernelSearch, int]] = {}
        self._started = time.monotonic()

    def run(self) -> None:
        """Measure until a limit is reached, little is left to gain, or Ctrl-C."""
        in_turn = sorted(self._searches, key=lambda search: -search.calls * search.workload.macs)
        self._waiting = [search for search in in_turn if not search.started]
        try:
            Lanes(self._measurers, self._next_job, self._take_in).run()
        except KeyboardInterrupt:
            self.end = "interrupted"
        finally:
            self.ledger.close()
        self.elapsed_s = time.monotonic() - self._started

    def _next_job(self, lane: int) -> Job | Later | None:
        """What a lane is to measure; None: nothing now, or, where no other lane is at work, nothing any more. LATER:
        other tuners are at all that is left, and what they find decides what is next.

        A phase begins when all of the one before is done.
        """
        if self._phase != "check":
            self.ledger.look(self._busy)
            self._elsewhere = False
            found = self._candidate(lane)
            if found is not None:
                if not self._limited():
                    return self._job(*found)
                self.ledger.unclaim(*found)
            if self._busy:
                return None
            if self._elsewhere and not self._limited():
                return LATER
            self._phase = "check"
            self._waiting = [search for search in self._searches if self._to_check(search)]
        return self._check_of(self._waiting.pop(0)) if self._waiting else None

    def _candidate(self, lane: int) -> tuple[KernelSearch, Mapping[str, int]] | None:
        if self._phase == "today":
            while self._waiting:
                search = self._waiting.pop(0)
                if self._claim(search, search.today):
                    return search, search.today
            if self._busy:
                return None
            self._phase = "search"
        return self._proposal(lane)

    def _proposal(self, lane: int) -> tuple[KernelSearch, Mapping[str, int]] | None:
        """The next candidate of the kernel whose batch the lane is at; then of the free one with the largest gain."""
        search, left = self._batches.pop(lane, (None, 0))
        if search is not None and left and search.workload.name not in self._busy:
            decisions = search.propose_free(partial(self._claim, search))
            if decisions is not None:
                self._batches[lane] = (search, left - 1)
                return search, decisions
        free = [search for search in self._searches if search.workload.name not in self._busy]
        for search in sorted(free, key=lambda search: -search.expected_gain_s):
            if search.expected_gain_s <= _WORTH_IT * self.ledger.latency_s:
                return None
            decisions = search.propose_free(partial(self._claim, search))
            if decisions is not None:
                self._batches[lane] = (search, BATCH - 1)
                return search, decisions
        return None

    def _claim(self, search: KernelSearch, decisions: Mapping[str, int]) -> bool:
        """Whether the candidate is this tuner's. One that another tuner is at makes the end wait for it."""
        if self.ledger.claim(search, decisions):
            return True
        self._elsewhere |= not search.knows(decisions)
        return False

    def _limited(self) -> bool:
        """Whether no more candidates may be begun; `end` then says why."""
        left = self._left_s()
        if self._limits.trials is not None and self.ledger.trials + len(self._busy) >= self._limits.trials:
            self.end = "trials"
        elif left is not None and left <= _CHECK_S * sum(self._to_check(search) for search in self._searches):
            self.end = "time"
        else:
            return False
        return True

    def _job(self, search: KernelSearch, decisions: Mapping[str, int]) -> Job:
        self._busy.add(search.workload.name)
        best = search.best
        if best is None:
            return Job(self._phase, search.workload, decisions)
        return Job(self._phase, search.workload, decisions, best.decisions, best.seconds or 0.0)

    def _take_in(self, job: Job, outcome: Outcome) -> None:
        """Record what became of a job and tell the search."""
        search = self.ledger.search_of(job.workload.name)
        assert search is not None
        self._busy.discard(job.workload.name)
        if job.tag == "check":
            self._take_check(search, outcome)
            return
        # One lane works on a kernel at a time: its best candidate is still the one that this one was compared to.
        record = self.ledger.take(search, job.decisions, outcome, search.best)
        self._tell(cast(Phase, job.tag), search, record)

    def _to_check(self, search: KernelSearch) -> bool:
        return self._last_look and search.improved and search.incumbent is not None

    def _check_of(self, search: KernelSearch) -> Job:
        """A winner beside today's once more, at length: many candidates were tried, some won by luck."""
        best, incumbent = search.best, search.incumbent
        assert best is not None and incumbent is not None
        self._busy.add(search.workload.name)
        return Job("check", search.workload, best.decisions, search.today, incumbent.time_s, thorough=True)

    def _take_check(self, search: KernelSearch, outcome: Outcome) -> None:
        """A winner that is not faster at all gives its place to the one before it, which is looked at next."""
        timing, best = outcome.timing, search.best
        assert best is not None
        if timing is None or timing.incumbent_seconds is None or timing.ratio >= 1:
            self._tell("check", search, self.ledger.refute(search))
            if self._to_check(search) and self._left_s() != 0:
                self._waiting.append(search)
        elif chance_of(round(timing.wins * timing.rounds), timing.rounds) <= CHANCE:
            self.checked[search.workload.name] = timing
            self._tell("check", search, best)

    def _left_s(self) -> float | None:
        if self._limits.seconds is None:
            return None
        return max(0.0, self._limits.seconds - (time.monotonic() - self._started))

    def _tell(self, phase: Phase, search: KernelSearch, record: Record) -> None:
        self._on_progress(
            Progress(
                phase=phase,
                kernel=search.workload.name,
                record=record,
                trials=self.ledger.trials,
                kernels=len(self._searches),
                started=sum(search.started for search in self._searches),
                elapsed_s=time.monotonic() - self._started,
                left_s=self._left_s(),
                before_s=self.ledger.before_s,
                latency_s=self.ledger.latency_s,
            )
        )
