"""What became of candidates: recorded, told to the searches, counted. The same for every route of measuring."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from effgen.files.claims import Claims
from effgen.machines.machine import Machine
from effgen.measure.carried.candidate import Outcome
from effgen.measure.carried.timing import EARLY_ROUNDS, better
from effgen.records.database import NOTHING_SEEN, RecordFile
from effgen.records.lookup import RecordSource, find_decisions, find_record
from effgen.records.record import MachineKey, Record, decision_key
from effgen.tuning.search import KernelSearch

#: The best candidate is recorded again when it takes less than this share of its recorded time.
_SURPRISE = 0.9

#: Seconds until it is asked again whether another tuner has ended its comparison.
_PATIENCE_S = 0.5


class Ledger:
    """The records of one machine's searches: what `file` knew at first (`resumed` candidates), and what is new.

    `devices` are the names of the machines that measured, in the order of their first outcome; `broken` the kernels
    that `rescue` found to give no right result as they are compiled today.
    """

    def __init__(self, searches: Sequence[KernelSearch], machine: Machine, file: RecordFile) -> None:
        self.searches = searches
        self.file = file
        self.trials = 0
        self.outcomes: Counter[str] = Counter()
        self.devices: list[str] = []
        self.broken: set[str] = set()
        self.tvm = version("apache-tvm")
        self._machine = machine
        self._by_name = {search.workload.name: search for search in searches}
        self._claims = Claims(file.path.with_name(f"{file.path.name}.claims"))
        self._own: Counter[str] = Counter()
        self._later: list[Record] = []
        loaded, self._seen = file.since(NOTHING_SEEN)
        self.ignored_lines = loaded.ignored
        self.resumed = self._resume(loaded.records)

    @property
    def latency_s(self) -> float:
        """Seconds of all calls of the kernels measured so far, each at its best."""
        return sum(search.calls * (search.best.seconds or 0) for search in self.searches if search.best)

    @property
    def before_s(self) -> float:
        """The same with what they are compiled with today."""
        return sum(search.calls * search.incumbent.time_s for search in self.searches if search.incumbent)

    def search_of(self, kernel: str) -> KernelSearch | None:
        """The search for the kernel of this name."""
        return self._by_name.get(kernel)

    def begin_from(self, sources: Iterable[RecordSource]) -> None:
        """Have every search compete against what a network is compiled with where records come from `sources`, and
        measure early what is good elsewhere.

        A record of another machine says which decisions, not how long they take here: they are measured first.
        """
        sources = list(sources)
        shipped = [source for source in sources if not source.own]
        for search in self.searches:
            found = find_record(search.workload, self._machine, search.space, sources)
            if found is not None:
                record, source = found
                if source.own and measured_here(record, self._machine) and not search.knows(record.decisions):
                    search.learn(record, fresh=False)  # by an earlier TVM: the scale that what beats it is told on
                search.begin_from(record.decisions)
            elsewhere = find_decisions(search.workload, self._machine, search.space, shipped)
            if elsewhere is not None:
                search.hint(elsewhere)

    def claim(self, search: KernelSearch, decisions: Mapping[str, int]) -> bool:
        """Have a candidate for this tuner; False where another one is at it, or has been: then it is known now.

        Tuners that share a database measure nothing twice. The claim ends with `take`, `unclaim` or the process.
        """
        if not self._claims.take(self._name(search, decisions)):
            return False
        self.look({search.workload.name for search in self.searches} - {search.workload.name})
        if search.knows(decisions):
            self.unclaim(search, decisions)
            return False
        return True

    def unclaim(self, search: KernelSearch, decisions: Mapping[str, int]) -> None:
        """Leave a candidate to others."""
        self._claims.drop(self._name(search, decisions))

    def look(self, busy: Collection[str] = ()) -> None:
        """Learn what other tuners have recorded since the last look, of kernels that are not `busy`: what is measured
        here is compared with the best that was known when it began."""
        found, self._seen = self.file.since(self._seen)
        records, self._later = [*self._later, *found.records], []
        for record in records:
            if self._own[record.line]:
                self._own[record.line] -= 1
            elif record.kernel in busy:
                self._later.append(record)
            else:
                self._resume([record])

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the one tuner on this database that compares networks: two at a time would disturb each other, and what
        one replaces is not what the other has compared."""
        while not self._claims.take("the comparison of networks"):
            time.sleep(_PATIENCE_S)
        try:
            self.look()
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Leave everything to others."""
        self._claims.close()

    def _name(self, search: KernelSearch, decisions: Mapping[str, int]) -> str:
        """Of a candidate, among all that tuners measure for one machine."""
        key = MachineKey.of(self._machine)
        where = (key, self._machine.microarchitecture, self._machine.threads)
        words = (search.workload.name, search.space.rule, *where, self.tvm)
        return f"{words} {decision_key(decisions)}"

    def _append(self, record: Record) -> None:
        self._own[record.line] += 1
        self.file.append(record)

    def take(
        self, search: KernelSearch, decisions: Mapping[str, int], outcome: Outcome, incumbent: Record | None
    ) -> Record:
        """Record a candidate that was timed in turn with `incumbent` (None: alone); it is on the disk on return.

        Its `seconds` are on the scale of the incumbent's record: a ratio is measured better than a time. It is not
        chosen: that takes `keep`.
        """
        if incumbent is not None:
            incumbent = self._corrected(search, incumbent, outcome)
        seconds, led, timing = None, False, outcome.timing
        if timing is not None:
            seconds = timing.seconds if incumbent is None else (incumbent.seconds or 0.0) * timing.ratio
            led = better(timing) if incumbent is not None else search.best is None
        record = self._new_record(search, decisions, outcome, seconds, led)
        self._append(record)
        self.unclaim(search, decisions)
        search.learn(record)
        self.trials += 1
        self.outcomes[record.status] += 1
        return record

    def keep(self, search: KernelSearch, ratio: float = 1.0) -> Record:
        """Have the best candidate chosen from now on: it is confirmed to take `ratio` of today's time at most."""
        assert search.best is not None
        seconds = search.best.time_s
        if search.incumbent is not None:  # on one scale with what it replaces, and below
            seconds = min(seconds, ratio * search.incumbent.time_s)
        return self._revised(search, search.best, seconds=seconds, kept=True)

    def refute(self, search: KernelSearch) -> Record:
        """Have the best candidate be one no longer: it won by luck, or in its loop alone."""
        assert search.best is not None
        return self._revised(search, search.best, kept=False, led=False)

    def rescue(self) -> None:
        """Keep what works where today's decisions do not: no comparison is needed."""
        for search in self.searches:
            if search.started and search.incumbent is None:
                self.broken.add(search.workload.name)
                if search.best is not None:
                    self.keep(search)

    def _resume(self, records: Iterable[Record]) -> int:
        """Tell every search what the database knows about it; returns how many candidates that is."""
        known = 0
        for record in records:
            search = self._by_name.get(record.kernel)
            if search is None or not measured_here(record, self._machine) or record.rule != search.space.rule:
                continue
            if record.tvm == self.tvm and search.space.contains(record.decisions):
                known += not search.knows(record.decisions)
                search.learn(record, fresh=False)
        return known

    def _corrected(self, search: KernelSearch, best: Record, outcome: Outcome) -> Record:
        """Record the incumbent anew where it turns out to be faster than when it was measured: the machine was
        busy then, and every other time of the kernel is told from this one."""
        timing = outcome.timing
        if timing is None or timing.incumbent_seconds is None or timing.rounds < EARLY_ROUNDS or best.seconds is None:
            return best
        if timing.incumbent_seconds >= _SURPRISE * best.seconds:
            return best
        return self._revised(search, best, seconds=timing.incumbent_seconds, device=outcome.device or best.device)

    def _revised(self, search: KernelSearch, known: Record, **changes: Any) -> Record:
        """Record a known candidate once more, with `changes`."""
        record = dataclasses.replace(known, date=now(), **changes)
        self._append(record)
        search.learn(record, fresh=False)
        return record

    def _new_record(
        self, search: KernelSearch, decisions: Mapping[str, int], outcome: Outcome, seconds: float | None, led: bool
    ) -> Record:
        if outcome.device and outcome.device not in self.devices:
            self.devices.append(outcome.device)
        key = MachineKey.of(self._machine)
        return Record(
            kernel=search.workload.name,
            rule=search.space.rule,
            decisions=dict(decisions),
            status=outcome.status,
            cores=self._machine.threads,
            mcpu=key.mcpu,
            lanes=key.lanes,
            seconds=seconds,
            led=led,
            error=outcome.error,
            tvm=self.tvm,
            date=now(),
            device=outcome.device,
            microarchitecture=self._machine.microarchitecture,
        )


def now() -> str:
    """The time, as records state it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def measured_here(record: Record, machine: Machine) -> bool:
    """Whether the record is of this machine, with its threads."""
    return record.is_of(machine) and record.cores == machine.threads
