"""The tuner's loop: which kernel is measured next, what becomes of it, and when to stop.

    defaults of all kernels -> batches for the kernel with the largest expected gain -> a last long look at what won

Every outcome is in the database before the next candidate is measured: a run that is stopped, however it is, loses
at most one, and the next run goes on where it stood.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal, Protocol

from effgen.kernels.workload import Workload
from effgen.measure.protocol import Outcome, Timing
from effgen.measure.timing import EARLY_ROUNDS, better
from effgen.records import MachineKey, Record, RecordFile, Source, find_decisions
from effgen.search import KernelSearch
from effgen.target import Machine

#: Candidates measured for one kernel before it is decided again which kernel is next.
BATCH = 8

#: The search ends where no kernel may save this share of the network's latency.
_WORTH_IT = 2e-4

#: Seconds that the last long look takes a kernel; kept back from a time limit.
_CHECK_S = 1.0

#: The best candidate is recorded again when it takes less than this share of its recorded time.
_SURPRISE = 0.9

End = Literal["trials", "time", "converged", "interrupted"]


@dataclass(frozen=True)
class Limits:
    """When to stop: after so many candidates, after so many seconds; None: when little more is to be gained."""

    trials: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a candidate: of which kernel, what became of it, whether it is the best now.

    `left_s` is None without a limit. `latency_s` is the sum of the best times over all calls of the kernels measured
    so far, `before_s` that of their defaults; `started` of `kernels` have been measured at all.
    """

    phase: Literal["defaults", "search", "check"]
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


class Measures(Protocol):
    """What the tuner needs of `effgen.measure.pool.Measurer`."""

    def measure(
        self,
        workload: Workload,
        decisions: Mapping[str, int],
        incumbent: Mapping[str, int] | None = None,
        incumbent_s: float = 0.0,
        thorough: bool = False,
    ) -> Outcome:
        """A candidate's outcome."""


class Tuner:
    """One run over the kernels of a network. `end` says why it ended, `checked` holds the last long look's times."""

    def __init__(
        self,
        searches: Sequence[KernelSearch],
        machine: Machine,
        measurer: Measures,
        file: RecordFile,
        limits: Limits = Limits(),
        sources: Iterable[Source] = (),
        on_progress: OnProgress = lambda progress: None,
    ) -> None:
        self.searches = searches
        self.file = file
        self.end: End = "converged"
        self.trials = 0
        self.outcomes: Counter[str] = Counter()
        self.checked: dict[str, tuple[float, float]] = {}
        self.elapsed_s = 0.0
        self._machine = machine
        self._measurer = measurer
        self._limits = limits
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._tvm = version("apache-tvm")
        loaded = file.load()
        self.ignored_lines = loaded.ignored
        self.resumed = self._resume(loaded.records)
        self._take_hints([source for source in sources if not source.own])

    def run(self) -> None:
        """Measure until a limit is reached, little is left to gain, or Ctrl-C."""
        try:
            self._measure_defaults()
            self._search()
            self._check_winners()
        except KeyboardInterrupt:
            self.end = "interrupted"
        except _LimitReachedError as reached:
            self.end = reached.end
            self._check_winners_unless_interrupted()
        self.elapsed_s = time.monotonic() - self._started

    @property
    def latency_s(self) -> float:
        """Seconds of all calls of the kernels measured so far, each at its best."""
        return sum(search.calls * (search.best.seconds or 0) for search in self.searches if search.best)

    @property
    def before_s(self) -> float:
        """The same with the rules' defaults."""
        return sum(search.calls * (search.default.seconds or 0) for search in self.searches if search.default)

    def _resume(self, records: Iterable[Record]) -> int:
        """Tell every search what the database knows about it; returns how many candidates that is."""
        by_name = {search.workload.name: search for search in self.searches}
        known = 0
        for record in records:
            search = by_name.get(record.kernel)
            if search is None or not measured_here(record, self._machine) or record.rule != search.space.rule:
                continue
            if record.tvm == self._tvm and search.space.contains(record.decisions):
                known += not search.knows(record.decisions)
                search.learn(record, fresh=False)
        return known

    def _take_hints(self, shipped: Sequence[Source]) -> None:
        for search in self.searches:
            found = find_decisions(search.workload, self._machine, search.space, shipped)
            if found is not None:
                search.hint(found)

    def _measure_defaults(self) -> None:
        for search in sorted(self.searches, key=lambda search: -search.calls * search.workload.macs):
            if not search.started:
                self._try("defaults", search, search.space.default)

    def _search(self) -> None:
        while True:
            search = max(self.searches, key=lambda search: search.expected_gain_s, default=None)
            if search is None or search.expected_gain_s <= _WORTH_IT * self.latency_s:
                return
            for _ in range(BATCH):
                decisions = search.propose()
                if decisions is None:
                    break
                self._try("search", search, decisions)

    def _try(self, phase: Literal["defaults", "search"], search: KernelSearch, decisions: Mapping[str, int]) -> None:
        """Measure one candidate, record it, tell the search; raises _LimitReachedError before, where one is."""
        if self._limits.trials is not None and self.trials >= self._limits.trials:
            raise _LimitReachedError("trials")
        left = self._left_s()
        if left is not None and left <= _CHECK_S * sum(self._to_check(search) for search in self.searches):
            raise _LimitReachedError("time")
        best = search.best
        if best is None:
            outcome = self._measurer.measure(search.workload, decisions)
        else:
            outcome = self._measurer.measure(search.workload, decisions, best.decisions, best.seconds or 0.0)
            self._correct(search, best, outcome.timing)
        record = self._record(search, decisions, outcome)
        self.file.append(record)
        search.learn(record)
        self.trials += 1
        self.outcomes[record.status] += 1
        self._tell(phase, search, record)

    def _correct(self, search: KernelSearch, best: Record, timing: Timing | None) -> None:
        """Record the best candidate anew where it turns out to be faster than when it was measured: the machine was
        busy then, and every other time of the kernel is told from this one."""
        if timing is None or timing.incumbent_seconds is None or timing.rounds < EARLY_ROUNDS or best.seconds is None:
            return
        if timing.incumbent_seconds < _SURPRISE * best.seconds:
            record = dataclasses.replace(best, seconds=timing.incumbent_seconds, date=now())
            self.file.append(record)
            search.learn(record, fresh=False)

    def _record(self, search: KernelSearch, decisions: Mapping[str, int], outcome: Outcome) -> Record:
        """`seconds` on the scale of the best record's: a ratio is measured better than a time."""
        seconds, kept, timing, best = None, False, outcome.timing, search.best
        if timing is not None:
            seconds = timing.seconds if best is None else (best.seconds or 0.0) * timing.ratio
            kept = best is None or better(timing)
        return self._new_record(search, decisions, outcome, seconds, kept)

    def _new_record(
        self, search: KernelSearch, decisions: Mapping[str, int], outcome: Outcome, seconds: float | None, kept: bool
    ) -> Record:
        key = MachineKey.of(self._machine)
        return Record(
            kernel=search.workload.name,
            rule=search.space.rule,
            decisions=dict(decisions),
            status=outcome.status,
            cores=self._machine.cores,
            mcpu=key.mcpu,
            lanes=key.lanes,
            seconds=seconds,
            kept=kept,
            error=outcome.error,
            tvm=self._tvm,
            date=now(),
        )

    def _to_check(self, search: KernelSearch) -> bool:
        return search.improved and search.measured > 0

    def _check_winners_unless_interrupted(self) -> None:
        try:
            self._check_winners()
        except KeyboardInterrupt:
            self.end = "interrupted"

    def _check_winners(self) -> None:
        """Compare each winner with the default once more, at length: many candidates were tried, some won by luck.

        Where the winner is no better the default is recorded as kept, and so comes back.
        """
        for search in self.searches:
            if not self._to_check(search) or search.best is None:
                continue
            best, default = search.best, search.space.default
            outcome = self._measurer.measure(search.workload, best.decisions, default, best.seconds or 0.0, True)
            if outcome.timing is None or outcome.timing.incumbent_seconds is None:
                continue
            timing = outcome.timing
            assert timing.incumbent_seconds is not None
            if timing.ratio < 1:
                self.checked[search.workload.name] = (timing.incumbent_seconds, timing.seconds)
                self._tell("check", search, best)
            else:
                record = self._new_record(search, default, Outcome("ok"), (best.seconds or 0.0) / timing.ratio, True)
                self.file.append(record)
                search.learn(record, fresh=False)
                self._tell("check", search, record)

    def _left_s(self) -> float | None:
        if self._limits.seconds is None:
            return None
        return max(0.0, self._limits.seconds - (time.monotonic() - self._started))

    def _tell(self, phase: Literal["defaults", "search", "check"], search: KernelSearch, record: Record) -> None:
        self._on_progress(
            Progress(
                phase=phase,
                kernel=search.workload.name,
                record=record,
                trials=self.trials,
                kernels=len(self.searches),
                started=sum(search.started for search in self.searches),
                elapsed_s=time.monotonic() - self._started,
                left_s=self._left_s(),
                before_s=self.before_s,
                latency_s=self.latency_s,
            )
        )


def now() -> str:
    """The time, as records state it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class _LimitReachedError(Exception):
    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end: End = end


def measured_here(record: Record, machine: Machine) -> bool:
    return record.machine == MachineKey.of(machine) and record.cores == machine.cores
