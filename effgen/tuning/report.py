"""What a tuning run found, kernel by kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from effgen.machines.machine import Machine
from effgen.network import Network
from effgen.network.file_network import OnnxNetwork
from effgen.results.reports import DISTURBING_CPUS
from effgen.tuning.ledger import Ledger
from effgen.tuning.search import KernelSearch
from effgen.tuning.tuner import End
from effgen.words import Engine, Route


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
    default_failed: bool = False


@dataclass(frozen=True)
class TuneReport:
    """What a run did. `before_s`, `after_s`: seconds of all calls of the kernels in the table, in one inference.

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
        """Whether other work was enough to doubt the times."""
        return self.other_cpus is not None and self.other_cpus > DISTURBING_CPUS


def report_of(
    network: Network | OnnxNetwork,
    machine: Machine,
    ledger: Ledger,
    untuned: Sequence[str],
    end: End,
    seconds: float,
    checked: Mapping[str, tuple[float, float]],
    promoted: int | None,
    other_cpus: float | None,
    route: Route,
    written: Written | None = None,
    engine: EngineFacts = EngineFacts(),
) -> TuneReport:
    """The report of a run that is over; `checked` holds seconds of defaults and winners side by side, by kernel."""
    kernels = tuple(_tuned(search, checked.get(search.workload.name)) for search in ledger.searches)
    timed = [kernel for kernel in kernels if kernel.before_s is not None and kernel.after_s is not None]
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
        before_s=sum(kernel.calls * (kernel.before_s or 0) for kernel in timed),
        after_s=sum(kernel.calls * (kernel.after_s or 0) for kernel in timed),
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
        default_failed=search.started and search.default is None,
    )
