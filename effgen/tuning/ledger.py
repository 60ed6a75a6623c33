"""What became of candidates: recorded, told to the searches, counted. The same for every route of measuring."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from effgen.files.claims import Claims
from effgen.machines.machine import Machine
from effgen.measure.carried.candidate import Outcome
from effgen.measure.carried.timing import EARLY_ROUNDS, better
from effgen.records.database import NOTHING_SEEN, RecordFile
from effgen.records.lookup import RecordSource, find_decisions
from effgen.records.record import MachineKey, Record, decision_key
from effgen.tuning.search import KernelSearch

#: The best candidate is recorded again when it takes less than this share of its recorded time.
_SURPRISE = 0.9


class Ledger:
    """The records of one machine's searches: what `file` knew at first (`resumed` candidates), and what is new.

    `devices` are the names of the machines that measured, in the order of their first outcome.
    """

    def __init__(self, searches: Sequence[KernelSearch], machine: Machine, file: RecordFile) -> None:
        self.searches = searches
        self.file = file
        self.trials = 0
        self.outcomes: Counter[str] = Counter()
        self.devices: list[str] = []
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
        """The same with the rules' defaults."""
        return sum(search.calls * (search.default.seconds or 0) for search in self.searches if search.default)

    def search_of(self, kernel: str) -> KernelSearch | None:
        """The search for the kernel of this name."""
        return self._by_name.get(kernel)

    def take_hints(self, shipped: Iterable[RecordSource]) -> None:
        """Have what is good elsewhere measured early."""
        sources = list(shipped)
        for search in self.searches:
            found = find_decisions(search.workload, self._machine, search.space, sources)
            if found is not None:
                search.hint(found)

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

        Its `seconds` are on the scale of the incumbent's record: a ratio is measured better than a time.
        """
        if incumbent is not None:
            incumbent = self._corrected(search, incumbent, outcome)
        seconds, kept, timing = None, False, outcome.timing
        if timing is not None:
            seconds = timing.seconds if incumbent is None else (incumbent.seconds or 0.0) * timing.ratio
            kept = better(timing) if incumbent is not None else search.best is None
        record = self._new_record(search, decisions, outcome, seconds, kept)
        self._append(record)
        self.unclaim(search, decisions)
        search.learn(record)
        self.trials += 1
        self.outcomes[record.status] += 1
        return record

    def take_back(self, search: KernelSearch, seconds: float, device: str) -> Record:
        """Record the default as the best again: the winner was none. `seconds` of a call of the default."""
        record = self._new_record(search, search.space.default, Outcome("ok", device=device), seconds, True)
        self._append(record)
        search.learn(record, fresh=False)
        return record

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
        device = outcome.device or best.device
        record = dataclasses.replace(best, seconds=timing.incumbent_seconds, date=now(), device=device)
        self._append(record)
        search.learn(record, fresh=False)
        return record

    def _new_record(
        self, search: KernelSearch, decisions: Mapping[str, int], outcome: Outcome, seconds: float | None, kept: bool
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
            kept=kept,
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
