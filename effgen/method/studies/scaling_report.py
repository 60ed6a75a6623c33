"""What a scaling search found: every way to scale, with its cost and accuracy, and how compound compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from effgen.method.studies.grid import SINGLE, Candidate, CandidateKind, Grid, LeftOutPoint
from effgen.method.studies.latencies import Latencies
from effgen.method.studies.samples import Sample, Verdict, compare


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

    def judged(self, confirmed: bool) -> Sample | None:
        """The accuracies to compare by: of the seeds that it was not picked by, or else of those that it was."""
        return self.confirmed if confirmed else self.search


@dataclass(frozen=True)
class AgainstSingle:
    """The best compound network beside one dimension alone; without a comparison `missing` says why there is none."""

    kind: str
    macs_share: float | None
    comparison: Verdict | None
    missing: str = ""


@dataclass(frozen=True)
class ScalingReport:
    """A search's outcome. `baseline` is the network before scaling; `rows` are by accuracy, `chosen` is one of them.

    `goal` are multiply-adds of one image; `compound` is the best compound row, None where none has an accuracy;
    `pictures` is how many an accuracy is a share of, None: unknown; `machine`, `threads` and `measured` (UTC) say where
    and when latencies were measured, empty where none were; `training_threads` are the fewest and the most of a
    training, None where they are not known.
    """

    model: str
    phi: float
    goal: float
    seeds: int
    confirm_seeds: int
    pictures: int | None
    baseline: ScaledRow
    rows: tuple[ScaledRow, ...]
    chosen: ScaledRow
    compound: ScaledRow | None
    against: tuple[AgainstSingle, ...]
    left_out: tuple[LeftOutPoint, ...]
    errors: tuple[str, ...]
    machine: str
    threads: int
    measured: str
    study: str
    training_threads: tuple[int, int] | None = None


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
    """The confirmed rows first, then those with an accuracy of the search alone, each by accuracy; then the others."""
    confirmed = [row for row in rows if row.confirmed is not None]
    searched = [row for row in rows if row.confirmed is None and row.search is not None]
    unknown = [row for row in rows if row.confirmed is None and row.search is None]
    return [*sorted(confirmed, key=_rank), *sorted(searched, key=_rank), *unknown]


def compared(
    rows: Sequence[ScaledRow], left_out: Sequence[LeftOutPoint], confirm_seeds: int, pictures: int | None
) -> tuple[ScaledRow | None, tuple[AgainstSingle, ...]]:
    """The best compound row, and how it does against each single dimension, or why that is not known.

    Accuracies of the same kind are compared: with `confirm_seeds` those of seeds that picked neither, and no others.
    `pictures` as in `compare`.
    """
    best = next((row for row in ranked(rows) if row.kind == "compound"), None)
    if best is None or (best.confirmed is None and best.search is None):
        return None, ()
    confirmed = confirm_seeds > 0
    singles = {row.kind: row for row in rows if row.kind != "compound"}
    comparisons = sum(row.judged(confirmed) is not None for row in singles.values())

    def against(kind: CandidateKind) -> AgainstSingle:
        row = singles.get(kind)
        if row is None:
            reason = next((item.reason for item in left_out if item.nominal == SINGLE[kind]), "it is no candidate")
            return AgainstSingle(kind, None, None, reason)
        mine, theirs = best.judged(confirmed), row.judged(confirmed)
        if mine is None or theirs is None:
            lost = f"all {'confirming ' if confirmed else ''}trainings of {'compound' if mine is None else kind} failed"
            return AgainstSingle(kind, row.macs_share, None, lost)
        return AgainstSingle(kind, row.macs_share, compare(mine, theirs, comparisons, pictures))

    return best, tuple(against(kind) for kind in SINGLE)


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
    sample = row.confirmed or row.search
    assert sample is not None
    return (-sample.mean, float("inf") if row.latency_ms is None else row.latency_ms, row.macs)
