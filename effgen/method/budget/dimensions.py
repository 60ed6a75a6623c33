"""One dimension against all: what a baseline costs when depth, width or resolution alone grows, and all together.

The paper's Tables 3 and 7 with the multiply-adds and latencies of the networks as they are built here, and the same
comparison for any spec at equal multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from effgen.machines.host import Host
from effgen.method.budget.equal_macs import networks_of_equal_macs
from effgen.method.budget.paper_tables import PAPER_TABLES, Dimension, PaperRow, Published, TableNumber
from effgen.method.latency.interleaved import check_timed_here
from effgen.network import Network, NetworkRequest, build_network
from effgen.network.scaling import Overrides
from effgen.results.reports import DEFAULT_PLAN, Origin, Plan, is_disturbing
from effgen.words import OnPhase

if TYPE_CHECKING:
    from effgen.results.reports import BenchReport


@dataclass(frozen=True)
class Variant:
    """A baseline scaled in one way, or not at all; `published` is what the paper prints of it, None: nothing."""

    dimension: Dimension
    network: Network
    published: Published | None = None
    note: str = ""


@dataclass(frozen=True)
class ScaledFamily:
    """Ways to scale one baseline, which is the first of `variants`. They are timed in one interleaved run."""

    name: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class TablePlan:
    """A table to be: families one below the other. `factor`: times the baseline's multiply-adds, None: the paper's."""

    title: str
    families: tuple[ScaledFamily, ...]
    factor: float | None = None


@dataclass(frozen=True)
class TimingOptions:
    """How latency is measured: as the arguments of `effgen.method.latency.interleaved.measure_networks`."""

    target: str = "cpu"
    threads: int | None = None
    plan: Plan = DEFAULT_PLAN
    database: Path | None = None


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a call with one image; `ratio` is the median over the baseline's of the same interleaved run."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    calls: int
    ratio: float


@dataclass(frozen=True)
class DimensionRow:
    """A network of the table.

    `depth` and `width` are multipliers, `resolution` pixels along a side, `phi` the compound coefficient where the
    spec's law gave all three. `parameters` and `macs` (multiply-adds) are counted, for one image; `macs_ratio` is over
    the baseline's of the same family, `published_ratio` over what the paper prints. `latency` None: not measured.
    """

    family: str
    dimension: Dimension
    depth: float
    width: float
    resolution: int
    phi: float | None
    parameters: int
    macs: int
    macs_ratio: float
    published: Published | None
    published_ratio: float | None
    latency: Latency | None
    note: str


@dataclass(frozen=True)
class DimensionTable:
    """Rows of each family together, its baseline first; `factor` as in `TablePlan`."""

    title: str
    factor: float | None
    rows: tuple[DimensionRow, ...]


@dataclass(frozen=True)
class Circumstances:
    """Where and how the latencies were measured, as in `BenchReport`; `other_cpus` is the most of any run."""

    origin: Origin
    target: str
    threads: int
    plan: Plan
    machine: Host
    other_cpus: float | None

    @property
    def disturbed(self) -> bool:
        """Whether other work was enough to doubt the times."""
        return is_disturbing(self.other_cpus)


@dataclass(frozen=True)
class DimensionsReport:
    """`measured` None: counts only."""

    tables: tuple[DimensionTable, ...]
    measured: Circumstances | None


def paper_comparisons(numbers: Sequence[TableNumber]) -> tuple[TablePlan, ...]:
    """The paper's tables with these numbers, each network built as `effgen inspect --spec ... --width ...` does."""
    return tuple(
        TablePlan(
            table.title,
            tuple(
                ScaledFamily(name, tuple(map(_variant, rows)))
                for name, rows in groupby(table.rows, lambda row: row.spec)
            ),
        )
        for table in PAPER_TABLES
        if table.number in numbers
    )


def _variant(row: PaperRow) -> Variant:
    overrides = Overrides(width=row.width, depth=row.depth, resolution_factor=row.resolution)
    return Variant(row.dimension, build_network(NetworkRequest(row.spec, overrides=overrides)), row.published, row.note)


def equal_macs_comparison(spec: str, factor: float) -> TablePlan:
    """A baseline (a family's name or a path) scaled to `factor` times its multiply-adds in each way.

    Raises SpecError as `networks_of_equal_macs` does.
    """
    networks = networks_of_equal_macs(spec, factor)
    name = networks["baseline"].spec.name
    family = ScaledFamily(name, tuple(Variant(dimension, network) for dimension, network in networks.items()))
    return TablePlan(f"{name} at {factor:g} times the multiply-adds", (family,), factor)


def compare_dimensions(
    comparisons: Sequence[TablePlan], timing: TimingOptions | None = None, on_phase: OnPhase = lambda phase: None
) -> DimensionsReport:
    """Count every network, and measure it where `timing` says how: each family compiled, then timed in turns.

    Raises an EffgenError before any work where the target cannot be timed here.
    """
    if timing is not None:
        on_phase(f"load TVM, describe the target {timing.target}")
        check_timed_here(timing.target, timing.threads)
    tables: list[DimensionTable] = []
    runs: list[BenchReport] = []
    for comparison in comparisons:
        rows: list[DimensionRow] = []
        for family in comparison.families:
            reports = {} if timing is None else _timed(family, timing, on_phase)
            runs += reports.values()
            rows += _rows(family, reports)
        tables.append(DimensionTable(comparison.title, comparison.factor, tuple(rows)))
    return DimensionsReport(tuple(tables), None if timing is None else _measured(timing, runs))


def _timed(family: ScaledFamily, timing: TimingOptions, on_phase: OnPhase) -> dict[Dimension, BenchReport]:
    from effgen.method.latency.interleaved import measure_networks

    networks = {f"{family.name} {variant.dimension}": variant.network for variant in family.variants}
    reports = measure_networks(networks, timing.target, timing.threads, timing.plan, timing.database, on_phase)
    return {variant.dimension: report for variant, report in zip(family.variants, reports.values(), strict=True)}


def _rows(family: ScaledFamily, reports: dict[Dimension, BenchReport]) -> list[DimensionRow]:
    base = family.variants[0]
    base_ms = reports[base.dimension].results[0].median_ms if reports else 1.0
    return [
        _row(family.name, variant, base.network.graph.macs, _latency(reports.get(variant.dimension), base_ms))
        for variant in family.variants
    ]


def _row(family: str, variant: Variant, base_macs: int, latency: Latency | None) -> DimensionRow:
    by, graph, published = variant.network.coefficients, variant.network.graph, variant.published
    return DimensionRow(
        family=family,
        dimension=variant.dimension,
        depth=by.depth,
        width=by.width,
        resolution=by.resolution,
        phi=by.phi if by.law == "formula" and variant.dimension == "compound" and published is None else None,
        parameters=graph.parameter_count,
        macs=graph.macs,
        macs_ratio=graph.macs / base_macs,
        published=published,
        published_ratio=None if published is None else graph.macs / published.macs,
        latency=latency,
        note=variant.note,
    )


def _latency(report: BenchReport | None, base_ms: float) -> Latency | None:
    if report is None:
        return None
    result = report.results[0]
    assert result.p10_ms is not None and result.p90_ms is not None and result.calls is not None
    return Latency(result.median_ms, result.p10_ms, result.p90_ms, result.calls, result.median_ms / base_ms)


def _measured(timing: TimingOptions, runs: Sequence[BenchReport]) -> Circumstances:
    first = runs[0]
    other = [run.other_cpus for run in runs if run.other_cpus is not None]
    return Circumstances(
        first.origin, first.target, first.threads, timing.plan, first.machine, max(other) if other else None
    )
