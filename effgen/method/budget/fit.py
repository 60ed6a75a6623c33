"""`effgen fit`: the largest network along a family's compound line that keeps within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

from effgen.errors import TargetError
from effgen.machines.target import check_target
from effgen.measure.routes import check_tracker
from effgen.method.budget.limits import KINDS, OF_A_MACHINE, Limit, LimitKind, limit_for
from effgen.method.budget.line import STEPS, Line, Rung
from effgen.method.budget.sites import Site, SiteOptions, open_sites
from effgen.method.budget.solver import Bound, Cost, How, Search
from effgen.network import Network, NetworkRequest, build_network
from effgen.network.scaling import Overrides
from effgen.network.spec import NetworkSpec, load_spec
from effgen.words import OnPhase

_ESTIMATED: Mapping[LimitKind, How] = {"latency": "predicted", "memory": "planned", "size": "estimated"}


@dataclass(frozen=True)
class FitRequest:
    """What `effgen fit` was asked for: a family (shipped name or path), its line from `min_phi` to `max_phi` (None: as
    far as there are networks), limits, and the targets on which they hold."""

    limits: tuple[Limit, ...]
    spec: str = "efficientnet"
    targets: tuple[str, ...] = ("cpu",)
    batch: int = 1
    overrides: Overrides = field(default_factory=Overrides)
    min_phi: float | None = None
    max_phi: float | None = None
    site: SiteOptions = field(default_factory=SiteOptions)


@dataclass(frozen=True)
class Expense:
    """What a network costs by one limit, in the units of `effgen.method.budget.limits.LimitKind`; `written` for people,
    in the unit of the limit, which is `option`. `target` None: the same everywhere."""

    kind: LimitKind
    target: str | None
    value: float
    limit: float
    share: float
    how: How
    written: str
    option: str


@dataclass(frozen=True)
class FittedNetwork:
    """One network of the line: `phi` is the largest of the stretch that begins at `phi_from`; multipliers, pixels,
    multiply-adds for one image, trainable parameters."""

    phi: float
    phi_from: float
    width: float
    depth: float
    resolution: int
    macs: int
    parameters: int
    expenses: tuple[Expense, ...]

    @property
    def broken(self) -> tuple[Expense, ...]:
        """The limits that it is over."""
        return tuple(expense for expense in self.expenses if expense.share > 1)


@dataclass(frozen=True)
class Confirmation:
    """One limit of one network that was measured: what was expected just before (`measured`: the same network's first
    measurement), and what was found. `disturbed`: other work makes the time doubtful."""

    phi: float
    expected: Expense
    measured: Expense
    disturbed: bool


@dataclass(frozen=True)
class FittedTarget:
    """What of a target was limited, what of that was measured, and why not the rest; `timing`: here, rpc or no."""

    name: str
    limited: tuple[LimitKind, ...]
    measured: tuple[LimitKind, ...]
    timing: str
    why_not: str


@dataclass(frozen=True)
class FitReport:
    """The network, its neighbours on the line (None: there is none), and what `binding` keeps phi from growing: the
    limits that the next network breaks; none where the line ends, or where the next may fit but was not tried: it is
    expected too near to a limit, or the search `gave_up`, having measured as many networks as it may."""

    model: str
    request: FitRequest
    baseline: NetworkSpec
    scaled: NetworkSpec
    phi_range: tuple[float, float]
    chosen: FittedNetwork
    below: FittedNetwork | None
    above: FittedNetwork | None
    targets: tuple[FittedTarget, ...]
    confirmations: tuple[Confirmation, ...]
    gave_up: bool

    @property
    def binding(self) -> tuple[Expense, ...]:
        return self.above.broken if self.above else ()


def check_fit_request(request: FitRequest) -> Line:
    """The line to search, once all that can be checked without working was; raises an EffgenError.

    Counts that never fall along the line are held to their limits at its lower end.
    """
    for target in request.targets:
        check_target(target)
        if request.targets.count(target) > 1:
            raise TargetError(f"--target {target}: given twice; expected each machine once")
    check_tracker(request.site.rpc_tracker, request.site.rpc_key)
    baseline = load_spec(request.spec)
    line = Line(baseline, request.overrides, request.min_phi, request.max_phi)
    smallest, networks = line.rung(line.low), _Networks(request, line)
    networks.of(smallest)
    growing = [bound for bound in _exact_bounds(request, line, networks) if bound.grows]
    Search(line, growing).check_possible(smallest)
    return line


def fit(request: FitRequest, on_phase: OnPhase = lambda phase: None, sites: Sequence[Site] | None = None) -> FitReport:
    """Search, and measure what is found where that can be done. `sites`: the targets' machines, None: opened here.

    Raises BudgetError where not even the smallest network keeps within the limits, and other EffgenErrors for a request
    that makes no sense or a machine of which nothing is known.
    """
    line = check_fit_request(request)
    if sites is None:
        limited = {target: _limited(request, target) for target in request.targets}
        sites = open_sites(limited, request.site, on_phase)
    return _Fit(request, line, sites, on_phase).run()


class _Networks:
    """The lowered networks of a line."""

    def __init__(self, request: FitRequest, line: Line) -> None:
        self._request = request
        self._line = line
        self._networks: dict[Rung, Network] = {}

    def of(self, rung: Rung) -> Network:
        """What `effgen compile` makes of the rung's phi."""
        if rung not in self._networks:
            asked = self._request
            request = NetworkRequest(asked.spec, rung.text, "formula", asked.batch, asked.overrides)
            self._networks[rung] = build_network(request, self._line.baseline)
        return self._networks[rung]


def _exact_bounds(request: FitRequest, line: Line, networks: _Networks) -> list[Bound]:
    """The limits of what is counted, the same on every machine."""
    # A bottleneck's shortcut has a convolution only where the channels change: rounding may end that.
    grows = all(stage.block != "bottleneck" for stage in line.baseline.stages)
    counts = {"macs": lambda rung: networks.of(rung).graph.macs}
    counts["params"] = lambda rung: networks.of(rung).graph.parameter_count
    return [
        Bound(limit, None, "exact", cache(counts[kind]), grows=grows)
        for kind in KINDS
        if kind not in OF_A_MACHINE and (limit := limit_for(kind, request.limits))
    ]


class _Fit:
    def __init__(self, request: FitRequest, line: Line, sites: Sequence[Site], on_phase: OnPhase) -> None:
        self.request = request
        self.line = line
        self.sites = sites
        self.on_phase = on_phase
        self.networks = _Networks(request, line)
        self.confirmations: list[Confirmation] = []
        self.search = Search(line, list(self.bounds()), self.measure if any(s.measurable for s in sites) else None)

    def run(self) -> FitReport:
        self.on_phase("search the compound line")
        rung = self.search.run()
        below, above = self.line.below(rung), self.line.above(rung)
        return FitReport(
            model=self.line.baseline.name,
            request=self.request,
            baseline=self.line.baseline,
            scaled=self.networks.of(rung).spec,
            phi_range=(self.line.low / STEPS, self.line.high / STEPS),
            chosen=self.fitted(rung),
            below=None if below is None else self.fitted(below),
            above=None if above is None else self.fitted(above),
            targets=tuple(map(_fitted_target, self.sites)),
            confirmations=tuple(self.confirmations),
            gave_up=self.search.gave_up,
        )

    def bounds(self) -> Sequence[Bound]:
        """Every limit on every machine that it holds on."""
        found = _exact_bounds(self.request, self.line, self.networks)
        for site in self.sites:
            for kind in OF_A_MACHINE:
                if limit := limit_for(kind, self.request.limits, site.name):
                    estimate = cache(partial(self.estimate, site, kind))
                    found.append(Bound(limit, site.name, _ESTIMATED[kind], estimate, kind in site.measurable))
        return found

    def estimate(self, site: Site, kind: LimitKind, rung: Rung) -> float:
        return site.estimate(kind, self.networks.of(rung))

    def measure(self, rung: Rung) -> Mapping[Bound, float]:
        found: dict[Bound, float] = {}
        for site in self.sites:
            if not site.measurable:
                continue
            measured = site.measure(self.networks.of(rung), self.on_phase)
            for bound in self.search.bounds:
                if bound.target == site.name and bound.limit.kind in measured.values:
                    found[bound] = measured.values[bound.limit.kind]
                    expected = _expense(self.search.cost(bound, rung))
                    now = _expense(Cost(bound, found[bound], "measured"))
                    self.confirmations.append(Confirmation(rung.phi, expected, now, measured.disturbed))
        self.on_phase("search the compound line")
        return found

    def fitted(self, rung: Rung) -> FittedNetwork:
        by, graph = self.line.coefficients(rung.last), self.networks.of(rung).graph
        return FittedNetwork(
            phi=rung.phi,
            phi_from=rung.first / STEPS,
            width=by.width,
            depth=by.depth,
            resolution=by.resolution,
            macs=graph.macs,
            parameters=graph.parameter_count,
            expenses=tuple(map(_expense, self.search.costs(rung))),
        )


def _limited(request: FitRequest, target: str) -> frozenset[LimitKind]:
    """What is limited on the target."""
    return frozenset(kind for kind in OF_A_MACHINE if limit_for(kind, request.limits, target))


def _fitted_target(site: Site) -> FittedTarget:
    in_order = (tuple(kind for kind in KINDS if kind in kinds) for kinds in (site.kinds, site.measurable))
    limited, measured = in_order
    return FittedTarget(site.name, limited, measured, site.timing, site.why_not)


def _expense(cost: Cost) -> Expense:
    limit, target = cost.bound.limit, cost.bound.target
    return Expense(
        kind=limit.kind,
        target=target,
        value=cost.value,
        limit=limit.most,
        share=cost.share,
        how=cost.how,
        written=limit.written(cost.value),
        option=limit.option,
    )
