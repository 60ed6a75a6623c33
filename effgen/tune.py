"""Tuning: measure candidates for every kernel of a network where they are worth most, and record each outcome.

    defaults of all kernels -> batches for the kernel with the largest expected gain -> a last long look at what won

Every outcome is in the database before the next candidate is measured: a run that is stopped, however it is, loses
at most one, and the next run goes on where it stood.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

from effgen.bench import DISTURBING_CPUS
from effgen.cpu import missing_features, usable_cpus
from effgen.errors import TuneError
from effgen.kernels.workload import Workload
from effgen.machine import watch_other_work
from effgen.measure.pool import Measurer
from effgen.measure.protocol import DEFAULT_PROVIDER, Outcome, Setup, SpaceProvider, Timing, provider_from_name
from effgen.measure.timing import EARLY_ROUNDS, better
from effgen.network import Network, NetworkRequest, build_network
from effgen.records import (
    MachineKey,
    Record,
    RecordFile,
    Source,
    default_database,
    find_decisions,
    promote,
    record_sources,
)
from effgen.search import KernelSearch
from effgen.target import Machine, check_target, load_target

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
class TuneRequest:
    """What `effgen tune` was asked for. `threads` None: all CPUs of this process; `database` None: the user's own.

    `fresh` forgets what the database holds of these kernels; `promote` is a folder of shipped records to merge into.
    """

    network: NetworkRequest
    target: str = "cpu"
    limits: Limits = field(default_factory=Limits)
    threads: int | None = None
    database: Path | None = None
    fresh: bool = False
    promote: Path | None = None
    seed: int = 0
    provider: str = DEFAULT_PROVIDER


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


@dataclass(frozen=True)
class TunedKernel:
    """One kernel before (the rule's default) and after, seconds a call; None where no candidate gave a time.

    `checked`: both come from one long interleaved comparison, not from two moments of the search.
    """

    name: str
    rule: str
    calls: int
    points: int
    measured: int
    before_s: float | None
    after_s: float | None
    decisions: Mapping[str, int]
    checked: bool


@dataclass(frozen=True)
class TuneReport:
    """What a run did. `before_s`, `after_s`: seconds of all calls of the kernels in the table, in one inference.

    `outcomes` counts this run's candidates by status; `resumed` those known from earlier runs. `untuned` are the
    kernels without a schedule space, `promoted` the shipped records that are new or better (None: not asked for).
    `other_cpus` is how many CPUs' worth of work other processes did meanwhile, None where the kernel does not tell.
    """

    model: str
    target: str
    machine: str
    threads: int
    end: End
    seconds: float
    trials: int
    resumed: int
    outcomes: Mapping[str, int]
    before_s: float
    after_s: float
    kernels: tuple[TunedKernel, ...]
    untuned: tuple[str, ...]
    database: str
    ignored_lines: int
    promoted: int | None
    other_cpus: float | None

    @property
    def disturbed(self) -> bool:
        """Whether other work was enough to doubt the times."""
        return self.other_cpus is not None and self.other_cpus > DISTURBING_CPUS


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


OnPhase = Callable[[str], None]
OnProgress = Callable[[Progress], None]


def check_tune_request(request: TuneRequest) -> Network:
    """The network asked for, once all that can be checked without working was; raises an EffgenError."""
    network = build_network(request.network)
    check_target(request.target)
    limits, cpus = request.limits, len(usable_cpus())
    if limits.trials is not None and limits.trials < 1:
        raise TuneError(f"--trials {limits.trials}: expected 1 or more candidates")
    if limits.seconds is not None and not 0 < limits.seconds < float("inf"):
        raise TuneError(f"--minutes {limits.seconds / 60:g}: expected a time above 0")
    if request.threads is not None and not 1 <= request.threads <= cpus:
        raise TuneError(f"--threads {request.threads}: expected from 1 to {cpus}, the CPUs that this process may use")
    _check_promote(request.promote)
    RecordFile(request.database or default_database()).check()
    return network


def _check_promote(folder: Path | None) -> None:
    if folder is None:
        return
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise TuneError(f"--promote {folder}: {nearest} is a file; expected a folder, e.g. schedules/records/x86-64-v4")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise TuneError(f"--promote {folder}: no permission to write in {nearest}; give another folder")


def tune_network(
    request: TuneRequest, on_phase: OnPhase = lambda phase: None, on_progress: OnProgress = lambda progress: None
) -> TuneReport:
    """Tune every kernel of a network; returns what was found, also where Ctrl-C ended it (`end`).

    Raises an EffgenError for a request that makes no sense or a target that this machine cannot run.
    """
    network = check_tune_request(request)
    on_phase(f"load TVM, describe the target {request.target}")
    machine = _machine(request)
    on_phase("list the kernels")
    calls = calls_of_network(network)
    file = RecordFile(request.database or default_database())
    if request.fresh:
        names = {workload.name for workload in calls}
        file.discard(lambda record: record.kernel in names and _measured_here(record, machine))
    space_of = provider_from_name(request.provider)
    searches, untuned = searches_of(calls, machine, space_of, request.seed)
    sources = record_sources(machine, file.path)
    # The worker's own work is known once it has ended: inside the watched block.
    with watch_other_work() as other_work, Measurer(Setup(machine, request.provider)) as measurer:
        on_phase(f"measure candidates of {len(searches)} kernels")
        tuner = Tuner(searches, machine, measurer, file, request.limits, sources, on_progress)
        tuner.run()
    promoted = None
    if request.promote is not None and tuner.end != "interrupted":
        facts = _facts(network, machine, tuner)
        promoted = promote([search.best for search in searches if search.best], request.promote, facts)
    return _report(network, machine, tuner, untuned, promoted, other_work.cpus)


def calls_of_network(network: Network) -> Counter[Workload]:
    """How often one inference calls each kernel: those that the importer would make of the same graph."""
    from effgen.block_fusion import kernel_calls
    from effgen.fusion import KernelCall
    from effgen.passes.fold_batchnorm import fold_batchnorm
    from effgen.weights import initial_weights

    graph, _ = fold_batchnorm(network.graph, initial_weights(network.graph, seed=0))
    return Counter(call.workload for call in kernel_calls(graph) if isinstance(call, KernelCall))


def searches_of(
    calls: Mapping[Workload, int], machine: Machine, space_of: SpaceProvider, seed: int = 0
) -> tuple[list[KernelSearch], list[str]]:
    """A search for every kernel with a schedule space, and the names of the kernels without one."""
    spaces = {workload: space_of(workload, machine) for workload in calls}
    searches = [KernelSearch(w, calls[w], space, seed) for w, space in spaces.items() if space is not None]
    return searches, [workload.name for workload, space in spaces.items() if space is None]


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
            if search is None or not _measured_here(record, self._machine) or record.rule != search.space.rule:
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
            record = dataclasses.replace(best, seconds=timing.incumbent_seconds, date=_now())
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
            date=_now(),
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class _LimitReachedError(Exception):
    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end: End = end


def _machine(request: TuneRequest) -> Machine:
    """The target with the threads asked for. Raises TuneError where this processor cannot run it."""
    from effgen.runtime.library import prepare_tvm

    prepare_tvm()
    machine = load_target(request.target)
    missing = missing_features(machine.features)
    if missing:
        raise TuneError(
            f"--target {request.target}: this processor lacks {', '.join(missing)}: kernels are measured here; "
            "tune on such a machine"
        )
    return dataclasses.replace(machine, cores=request.threads or len(usable_cpus()))


def _measured_here(record: Record, machine: Machine) -> bool:
    return record.machine == MachineKey.of(machine) and record.cores == machine.cores


def _facts(network: Network, machine: Machine, tuner: Tuner) -> dict[str, Any]:
    """What a manifest of shipped records says about a promotion."""
    from effgen.machine import describe_host

    host = describe_host()
    return {
        "network": f"{network.title}, batch {network.graph.batch}",
        "tvm": version("apache-tvm"),
        "date": _now(),
        "machine": host.cpu,
        "virtual": host.virtual,
        "system": host.system,
        "mcpu": machine.mcpu,
        "lanes": machine.lanes,
        "cores": machine.cores,
        "candidates": tuner.trials + tuner.resumed,
    }


def _report(
    network: Network,
    machine: Machine,
    tuner: Tuner,
    untuned: Sequence[str],
    promoted: int | None,
    other_cpus: float | None,
) -> TuneReport:
    kernels = tuple(_tuned(search, tuner.checked.get(search.workload.name)) for search in tuner.searches)
    timed = [kernel for kernel in kernels if kernel.before_s is not None and kernel.after_s is not None]
    return TuneReport(
        model=network.title,
        target=machine.name,
        machine=machine.mcpu,
        threads=machine.cores,
        end=tuner.end,
        seconds=tuner.elapsed_s,
        trials=tuner.trials,
        resumed=tuner.resumed,
        outcomes=dict(tuner.outcomes),
        before_s=sum(kernel.calls * (kernel.before_s or 0) for kernel in timed),
        after_s=sum(kernel.calls * (kernel.after_s or 0) for kernel in timed),
        kernels=kernels,
        untuned=tuple(untuned),
        database=str(tuner.file.path),
        ignored_lines=tuner.ignored_lines,
        promoted=promoted,
        other_cpus=other_cpus,
    )


def _tuned(search: KernelSearch, checked: tuple[float, float] | None) -> TunedKernel:
    default = search.default.seconds if search.default else None
    best = search.best.seconds if search.best else None
    before, after = checked or (default, best if search.improved else default)
    return TunedKernel(
        name=search.workload.name,
        rule=search.space.rule,
        calls=search.calls,
        points=search.points,
        measured=search.measured,
        before_s=before,
        after_s=after,
        decisions=dict(search.best.decisions if search.best else search.space.default),
        checked=checked is not None,
    )
