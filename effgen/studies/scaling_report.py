"""What a scaling search found: every way to scale, with its cost and accuracy, and how compound compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from effgen.studies.grid import Candidate, Grid, LeftOut
from effgen.studies.latencies import Latencies
from effgen.studies.samples import Comparison, Sample, compare


@dataclass(frozen=True)
class ScaledRow:
    """A way to scale. `depth` and `width` are multipliers, `resolution` pixels; counts are for one image.

    `macs_share` is of the goal; `search` are the accuracies it was picked by, `confirmed` those of other seeds, of
    finalists alone; `failed` counts trainings without an accuracy.
    """

    kind: str
    alpha: float
    beta: float
    gamma: float
    depth: float
    width: float
    resolution: int
    macs: int
    macs_share: float
    parameters: int
    latency_ms: float | None
    search: Sample | None
    confirmed: Sample | None
    failed: int

    @property
    def judged(self) -> Sample | None:
        """The accuracies to compare by: of the seeds that it was not picked by, if there are some."""
        return self.confirmed or self.search


@dataclass(frozen=True)
class AgainstSingle:
    """The best compound network beside one dimension alone."""

    kind: str
    macs_share: float
    comparison: Comparison


@dataclass(frozen=True)
class ScalingReport:
    """A search's outcome. `baseline` is the network before scaling; `rows` are by accuracy, `chosen` is one of them.

    `goal` are multiply-adds of one image; `compound` is the best compound row, None where none has an accuracy;
    `machine`, `threads` and `measured` (UTC) say where and when latencies were measured, empty where none were.
    """

    model: str
    phi: float
    goal: float
    seeds: int
    confirm_seeds: int
    baseline: ScaledRow
    rows: tuple[ScaledRow, ...]
    chosen: ScaledRow
    compound: ScaledRow | None
    against: tuple[AgainstSingle, ...]
    left_out: tuple[LeftOut, ...]
    errors: tuple[str, ...]
    machine: str
    threads: int
    measured: str
    study: str


def finalists(grid: Grid, found: Mapping[str, Sample]) -> list[Candidate]:
    """The best compound network and the single dimensions: those that are trained again with other seeds.

    `found`: accuracies by candidate's key; those without any are no finalists. The same for every worker.
    """
    known = [candidate for candidate in grid.candidates if candidate.key in found]
    compound = [candidate for candidate in known if candidate.kind == "compound"]
    best = sorted(compound, key=lambda one: (-found[one.key].mean, one.macs, one.key))[:1]
    return [*best, *(candidate for candidate in known if candidate.kind != "compound")]


def choose(rows: Sequence[ScaledRow]) -> ScaledRow:
    """The row of the best mean accuracy, of those that were confirmed if some were; of equal ones the fastest."""
    return ranked(rows)[0]


def ranked(rows: Sequence[ScaledRow]) -> list[ScaledRow]:
    """Rows with an accuracy first: the confirmed before the others, each by accuracy."""
    known = sorted((row for row in rows if row.judged is not None), key=lambda row: (row.confirmed is None, _rank(row)))
    return [*known, *(row for row in rows if row.judged is None)]


def compared(rows: Sequence[ScaledRow]) -> tuple[ScaledRow | None, tuple[AgainstSingle, ...]]:
    """The best compound row, and how it does against each single dimension."""
    best = next((row for row in ranked(rows) if row.kind == "compound"), None)
    if best is None or best.judged is None:
        return None, ()
    singles = [(row, row.judged) for row in rows if row.kind != "compound" and row.judged is not None]
    against = [AgainstSingle(row.kind, row.macs_share, compare(best.judged, judged)) for row, judged in singles]
    return best, tuple(against)


def row_from(
    candidate: Candidate, grid: Grid, latencies: Latencies, search: Sample | None, confirmed: Sample | None, failed: int
) -> ScaledRow:
    """The table's row of a candidate."""
    graph = candidate.network.graph
    return ScaledRow(
        kind=candidate.kind,
        alpha=candidate.alpha,
        beta=candidate.beta,
        gamma=candidate.gamma,
        depth=candidate.alpha**grid.phi,
        width=candidate.beta**grid.phi,
        resolution=candidate.network.spec.input.resolution,
        macs=graph.macs,
        macs_share=graph.macs / grid.goal,
        parameters=graph.parameter_count,
        latency_ms=latencies.milliseconds.get(candidate.key),
        search=search,
        confirmed=confirmed,
        failed=failed,
    )


def _rank(row: ScaledRow) -> tuple[float, float, int]:
    assert row.judged is not None
    return (-row.judged.mean, float("inf") if row.latency_ms is None else row.latency_ms, row.macs)
