"""What a tuning run found, kernel by kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from effgen.judge.duel import Duel
from effgen.machines.machine import Machine
from effgen.network import Network
from effgen.network.file_network import OnnxNetwork
from effgen.results.reports import DISTURBING_CPUS
from effgen.tuning.confirm import Said, Verdict, waiting_of
from effgen.tuning.ledger import Ledger
from effgen.tuning.search import KernelSearch
from effgen.tuning.tuner import End
from effgen.words import Engine, Route

#: Where winners were compared with what was there: inside the network, or in a loop of their own.
Judged = Literal["network", "loop"]


@dataclass(frozen=True)
class Written:
    """A folder for a machine that no network reaches; `failed` candidates could not be built. Size in bytes."""

    folder: str
    plan: str
    kernels: int
    candidates: int
    failed: int
    size: int


@dataclass(frozen=True)
class EngineFacts:
    """What searched. Of MetaSchedule: what its candidates were `ranked_by`, "xgboost" or "random", and the kernels
    whose search it gave up, with the reason."""

    name: Engine = "effgen"
    ranked_by: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TunedKernel:
    """One kernel as a network was compiled before the run and after it, seconds a call; None where nothing gave a time.

    `replaced`: its record was, with the decisions stated; both times then come from one interleaved comparison.
    `broken`: what it was compiled with before gave no right result.
    """

    name: str
    rule: str
    calls: int
    points: int
    measured: int
    before_s: float | None
    after_s: float | None
    decisions: Mapping[str, int]
    replaced: bool
    broken: bool = False


@dataclass(frozen=True)
class NetworkTimes:
    """The whole network with the records of before and with new ones, in turn: median seconds of a call, median and
    quartiles of the rounds' ratios new / old, and the rounds that the new ones won. `other_cpus` as in `TuneReport`."""

    old_s: float
    new_s: float
    ratio: float
    ratio_quartiles: tuple[float, float]
    wins: int
    rounds: int
    other_cpus: float | None


@dataclass(frozen=True)
class TuneReport:
    """What a run did. `before_s`, `after_s`: seconds of one inference as it is compiled before and after the run; of
    the network itself where it was compared (`network`), else the sum of all calls of the kernels in the table.

    What was not confirmed to be faster, as `judged`, changes nothing. `said` is what was said of it; of `waiting`
    kernels something better may be known, which another run will compare; `problem` is why networks could not be;
    `disturbed_by` is `other_cpus` of a comparison that was disturbed.

    `outcomes` counts this run's candidates by status; `resumed` those known from earlier runs. `untuned` are the
    kernels without a schedule space, `promoted` the shipped records that are new or better (None: not asked for).
    `other_cpus` is how many CPUs' worth of work other processes did meanwhile, None where the kernel does not tell, or
    the machine is another one. `devices` are the names of the machines that measured, `written` is the folder for the
    next round of an offline one, `engine` what searched.
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
    judged: Judged
    said: Said
    network: NetworkTimes | None
    waiting: int
    problem: str
    disturbed_by: float | None
    before_s: float
    after_s: float
    kernels: tuple[TunedKernel, ...]
    untuned: tuple[str, ...]
    database: str
    ignored_lines: int
    promoted: int | None
    other_cpus: float | None
    route: Route
    devices: tuple[str, ...]
    written: Written | None = None
    engine: EngineFacts = EngineFacts()

    @property
    def disturbed(self) -> bool:
        """Whether other work was enough to doubt the times of the search."""
        return self.other_cpus is not None and self.other_cpus > DISTURBING_CPUS

    @property
    def replaced(self) -> int:
        """Of how many kernels the records were replaced."""
        return sum(kernel.replaced for kernel in self.kernels)

    @property
    def speedup(self) -> float | None:
        """Before / after; None where nothing was timed."""
        if self.network is not None:
            return 1 / self.network.ratio if self.said == "better" else 1.0
        return self.before_s / self.after_s if self.after_s else None


def report_of(
    network: Network | OnnxNetwork,
    machine: Machine,
    ledger: Ledger,
    untuned: Sequence[str],
    end: End,
    seconds: float,
    judged: Judged,
    verdict: Verdict,
    promoted: int | None,
    other_cpus: float | None,
    route: Route,
    written: Written | None = None,
    engine: EngineFacts = EngineFacts(),
) -> TuneReport:
    """The report of a run that is over."""
    kernels = tuple(_tuned(search, verdict, ledger) for search in ledger.searches)
    whole = None if verdict.whole is None else _times(verdict.whole)
    timed = [kernel for kernel in kernels if kernel.before_s is not None and kernel.after_s is not None]
    before_s = sum(kernel.calls * (kernel.before_s or 0) for kernel in timed)
    after_s = sum(kernel.calls * (kernel.after_s or 0) for kernel in timed)
    if whole is not None:
        before_s, after_s = whole.old_s, whole.new_s if verdict.said == "better" else whole.old_s
    return TuneReport(
        model=network.title,
        target=machine.name,
        machine=machine.processor,
        threads=machine.threads,
        end=end,
        seconds=seconds,
        trials=ledger.trials,
        resumed=ledger.resumed,
        outcomes=dict(ledger.outcomes),
        judged=judged,
        said=verdict.said,
        network=whole,
        waiting=len(waiting_of(ledger)),
        problem=verdict.problem,
        disturbed_by=verdict.other_cpus,
        before_s=before_s,
        after_s=after_s,
        kernels=kernels,
        untuned=tuple(untuned),
        database=str(ledger.file.path),
        ignored_lines=ledger.ignored_lines,
        promoted=promoted,
        other_cpus=other_cpus,
        route=route,
        devices=tuple(ledger.devices),
        written=written,
        engine=engine,
    )


def _times(duel: Duel) -> NetworkTimes:
    return NetworkTimes(
        old_s=duel.before_s,
        new_s=duel.after_s,
        ratio=duel.ratio,
        ratio_quartiles=duel.quartiles,
        wins=duel.wins,
        rounds=duel.rounds,
        other_cpus=duel.other_cpus,
    )


def _tuned(search: KernelSearch, verdict: Verdict, ledger: Ledger) -> TunedKernel:
    name, best = search.workload.name, search.best
    broken = name in ledger.broken
    if broken:
        before, after = None, best.seconds if best else None
    else:
        today = search.incumbent.seconds if search.incumbent else None
        before, after = verdict.kept.get(name, (today, today))
    replaced = name in verdict.kept or (broken and best is not None)
    return TunedKernel(
        name=name,
        rule=search.space.rule,
        calls=search.calls,
        points=search.points,
        measured=search.measured,
        before_s=before,
        after_s=after,
        decisions=dict(best.decisions if replaced and best else search.today),
        replaced=replaced,
        broken=broken,
    )
