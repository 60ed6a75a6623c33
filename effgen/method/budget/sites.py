"""The machines that a network is fitted to: what each can say of one before it is compiled, and what it measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from effgen.errors import TargetError, TuneError
from effgen.graph import FLOAT32_BYTES, Graph
from effgen.machines.abilities import Ability, ability_of, times_kernels_here
from effgen.machines.machine import Machine
from effgen.machines.target import load_target, stated_target
from effgen.measure.routes import RouteOptions, remote_of
from effgen.method.budget.footprint import footprint
from effgen.method.budget.limits import LimitKind
from effgen.network import Network
from effgen.results.reports import DEFAULT_PLAN, BenchReport, Plan
from effgen.runtime.answers import AnswerLayout
from effgen.runtime.library import prepare_tvm
from effgen.words import OnPhase

if TYPE_CHECKING:
    from effgen.measure.protocol import Remote
    from effgen.method.latency.measured import Compiled

#: What the machine code of one kernel takes about, in bytes: between 6 and 8.5 kB on x86-64 and aarch64.
_CODE_BYTES_OF_A_KERNEL = 7_000

# Other work takes a machine for a while: a moment later the time may be right.
_TIMES_WHERE_DISTURBED = 3

_NOTHING: frozenset[LimitKind] = frozenset()


class Predicted(Protocol):
    """What a predictor says of a graph."""

    @property
    def seconds(self) -> float:
        """Latency of one call."""


class Predicts(Protocol):
    """`effgen.method.latency.predictor.Predictor`, or what stands in for it."""

    def predict(self, graph: Graph) -> Predicted:
        """The latency of a graph, its batch norms not folded."""


@dataclass(frozen=True)
class SiteOptions:
    """How machines are asked. `threads` None: all that the target has; `database` of tuning records, None: the user's
    own; `confirm` False: nothing is compiled; `plan`: how long a latency is measured."""

    threads: int | None = None
    database: Path | None = None
    confirm: bool = True
    plan: Plan = DEFAULT_PLAN
    rpc_tracker: str | None = None
    rpc_key: str | None = None


@dataclass(frozen=True)
class Measured:
    """What one compiled network came to, by kind of limit; `disturbed`: other work makes its time doubtful."""

    values: Mapping[LimitKind, float]
    disturbed: bool = False


@dataclass(frozen=True)
class Site:
    """One target. `kinds` are limited there, `measurable` those that are measured; `why_not` says why not the others.

    `timing`: where latency is measured, here or on a `remote` device.
    """

    name: str
    kinds: frozenset[LimitKind]
    measurable: frozenset[LimitKind]
    why_not: str
    machine: Machine
    options: SiteOptions
    predictor: Predicts | None = None
    remote: Remote | None = None

    @property
    def timing(self) -> Literal["here", "rpc", "no"]:
        if "latency" not in self.measurable:
            return "no"
        return "here" if self.remote is None else "rpc"

    def estimate(self, kind: LimitKind, network: Network) -> float:
        """What the network will cost: seconds or bytes. Memory is planned as the compiler does."""
        if kind == "latency":
            assert self.predictor is not None
            return self.predictor.predict(network.graph).seconds
        planned = footprint(network.graph, self.machine)
        return planned.memory if kind == "memory" else planned.weights + planned.kernels * _CODE_BYTES_OF_A_KERNEL

    def measure(self, network: Network, on_phase: OnPhase = lambda phase: None) -> Measured:
        """What it costs once compiled. Raises an EffgenError where it cannot be compiled or run."""
        from effgen.method.latency.measured import compiled

        options = self.options
        on_phase(f"compile {network.title} for {self.name}")
        with compiled(network, self.name, options.threads, options.database) as made:
            size = made.facts.bundle_bytes
            assert size is not None
            values: dict[LimitKind, float] = {"size": size, "memory": _memory(made)}
            disturbed = False
            if "latency" in self.measurable:
                on_phase(f"measure {network.title} on {self.name}")
                report = self._quietest(made)
                values["latency"], disturbed = report.results[0].median_ms / 1e3, report.disturbed
        return Measured({kind: values[kind] for kind in self.measurable}, disturbed)

    def _quietest(self, made: Compiled) -> BenchReport:
        """Times of the bundle; where other work disturbs them all, the median of several measurements."""
        reports = []
        for _ in range(_TIMES_WHERE_DISTURBED):
            reports.append(made.time(self.options.plan, self.remote))
            if not reports[-1].disturbed:
                return reports[-1]
        reports.sort(key=lambda report: report.results[0].median_ms)
        return reports[len(reports) // 2]


def open_sites(
    limited: Mapping[str, frozenset[LimitKind]], options: SiteOptions, on_phase: OnPhase = lambda phase: None
) -> list[Site]:
    """The machines of the targets on which something is limited, ready to say what that will be.

    Raises TargetError or TuneError, naming the target, where it is unknown or nothing is known of its speed.
    """
    sites = [_described(target, kinds, options, on_phase) for target, kinds in limited.items() if kinds]
    if options.rpc_tracker is not None and not any(site.timing == "rpc" for site in sites):
        raise TuneError(
            f"--rpc-tracker {options.rpc_tracker}: nothing to measure there: no --target that runs elsewhere has a "
            "latency to confirm"
        )
    # A calibration takes a minute and a half: first those that need none, and may fail.
    opened = {site.name: _with_predictor(site, on_phase) for site in sorted(sites, key=_is_calibrated)}
    return [opened[site.name] for site in sites]


def _described(target: str, kinds: frozenset[LimitKind], options: SiteOptions, on_phase: OnPhase) -> Site:
    stated_target(target)
    on_phase(f"describe the target {target}")
    prepare_tvm()
    machine = load_target(target)
    ability = ability_of(machine)
    remote = _remote(target, ability, options)
    measurable, why_not = _measurable(kinds, ability, remote) if options.confirm else (_NOTHING, "--no-confirm")
    return Site(target, kinds, measurable, why_not, machine, options, remote=remote)


def _with_predictor(site: Site, on_phase: OnPhase) -> Site:
    """The machine is calibrated first where that can be done here."""
    if "latency" not in site.kinds:
        return site
    if _is_calibrated(site):
        _calibrate(site.name, site.options, on_phase)
    on_phase(f"open the predictor for {site.name}")
    try:
        return replace(site, predictor=_open_predictor(site.name, site.options))
    except TuneError as error:
        if str(error).startswith(f"--target {site.machine.name}: ") and _would_be_calibrated(site):
            raise TuneError(f"{error}; or run effgen fit without --no-confirm once here") from None
        raise


def _is_calibrated(site: Site) -> bool:
    """Whether its speed is measured here before anything is predicted."""
    return site.timing == "here" and times_kernels_here(site.machine)


def _would_be_calibrated(site: Site) -> bool:
    """Whether nothing but `--no-confirm` is in the way."""
    if site.options.confirm or site.remote is not None or not times_kernels_here(site.machine):
        return False
    return ability_of(site.machine).builds


def _open_predictor(target: str, options: SiteOptions) -> Predicts:
    from effgen.method.latency.predictor import open_predictor

    try:
        predictor: Predicts = open_predictor(target, options.threads, options.database)
    except (TargetError, TuneError) as error:
        if target in str(error):
            raise
        raise type(error)(f"--target {target}: {error}") from None
    return predictor


def _calibrate(target: str, options: SiteOptions, on_phase: OnPhase) -> None:
    from effgen.method.latency.calibration import calibrate

    calibrate(target, options.threads, options.database, on_phase)


def _remote(target: str, ability: Ability, options: SiteOptions) -> Remote | None:
    """The device that stands for the target: where a tracker is given, for what is measured so or does not run here."""
    if options.rpc_tracker is None or (ability.route != "rpc" and ability.runs == "native"):
        return None
    return remote_of(target, RouteOptions(rpc_tracker=options.rpc_tracker, rpc_key=options.rpc_key))


def _measurable(
    kinds: frozenset[LimitKind], ability: Ability, remote: Remote | None
) -> tuple[frozenset[LimitKind], str]:
    """What of `kinds` can be measured, and why not the rest."""
    if not ability.builds:
        return _NOTHING, ability.why_not
    if remote is not None or ability.runs == "native":
        return kinds, ""
    emulated = "an emulator's times say nothing: give --rpc-tracker of a device"
    return kinds - {"latency"}, emulated if ability.runs == "emulated" else ability.why_not


def _memory(made: Compiled) -> int:
    """Bytes of the bundle's weights, workspace, image and outputs."""
    manifest, weights = made.manifest, made.facts.weights_bytes
    assert weights is not None
    tensors = prod(manifest.input["shape"]) + AnswerLayout.of(manifest).floats
    return weights + manifest.workspace_bytes + FLOAT32_BYTES * int(tensors)
