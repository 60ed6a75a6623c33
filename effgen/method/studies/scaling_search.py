"""The search for alpha, beta and gamma (paper, section 3.3, step 1): candidates trained, some confirmed, all timed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from effgen.errors import StudyError
from effgen.method.studies.grid import LARGEST, Candidate, Grid, GridPlan, make_grid, with_coefficients
from effgen.method.studies.judge import Judge, JudgeRequest, judged, open_judge
from effgen.method.studies.latencies import (
    NO_LATENCIES,
    Latencies,
    LatencyRequest,
    check_latency,
    measure_latencies,
    open_latencies,
)
from effgen.method.studies.samples import Sample, sample_of
from effgen.method.studies.scaling_report import ScaledRow, ScalingReport, choose, compared, finalists, ranked, row_from
from effgen.method.studies.standings import Item, settled_items, training_threads_of
from effgen.method.studies.storage import SharedStudy, open_study
from effgen.method.studies.turns import Turns, turns_here
from effgen.method.studies.workers import DEFAULT_POLICY, Claim, OnSettled, Policy, run_items
from effgen.network.spec import NetworkSpec, load_spec
from effgen.network.spec_file import write_spec
from effgen.words import OnPhase

#: What the parameters of a training may be, for Optuna's own tools.
_COEFFICIENT = FloatDistribution(1.0, LARGEST)
_DISTRIBUTIONS: dict[str, BaseDistribution] = dict.fromkeys(("alpha", "beta", "gamma"), _COEFFICIENT) | {
    "seed": IntDistribution(0, 2**31 - 1)
}


@dataclass(frozen=True)
class ScalingRequest:
    """What `effgen search scaling` was asked for.

    `seeds` trainings of each candidate pick the finalists, `confirm_seeds` others compare them. `storage` is a URL,
    `study` a name in it, `folder` that of this machine's unfinished trainings. `latency` None: nothing is timed.
    `retry_failed`: what has failed so far is tried again.
    """

    spec: str
    judge: JudgeRequest
    storage: str
    study: str
    folder: Path
    phi: float
    grid: GridPlan
    seeds: int
    confirm_seeds: int
    latency: LatencyRequest | None
    policy: Policy = DEFAULT_POLICY
    retry_failed: bool = False


@dataclass(frozen=True)
class Training:
    """One training of one candidate."""

    candidate: Candidate
    seed: int

    @property
    def item(self) -> Item:
        """The trial that it is in the storage."""
        by = self.candidate
        params = {"alpha": by.alpha, "beta": by.beta, "gamma": by.gamma, "seed": self.seed}
        return Item(f"{by.key} seed {self.seed}", params, _DISTRIBUTIONS)


@dataclass(frozen=True)
class ScalingSearch:
    """A search that was looked over, with its storage open. `spec` is the baseline with the data set's classes,
    `retried` how many trials failed before and will be tried again."""

    request: ScalingRequest
    judge: Judge
    spec: NetworkSpec
    grid: Grid
    facts: Mapping[str, Any]
    turns: Turns
    shared: SharedStudy
    retried: int = 0

    @property
    def searched(self) -> list[Training]:
        """The trainings that pick the finalists, all candidates with one seed before the next seed."""
        seeds = range(self.request.seeds)
        return [Training(one, seed) for seed in seeds for one in (self.grid.unscaled, *self.grid.candidates)]

    @property
    def trainings(self) -> int:
        """How many there are, those of finalists included."""
        finalists = 1 + sum(candidate.kind != "compound" for candidate in self.grid.candidates)
        return len(self.searched) + (1 + finalists) * self.request.confirm_seeds

    @property
    def confirming(self) -> list[Training]:
        """The trainings of the finalists with other seeds, once the first are over: the same ones for every worker."""
        found = samples(self.shared.trials, self.searched, self.request.policy)
        chosen = [self.grid.unscaled, *finalists(self.grid, found)]
        seeds = range(self.request.seeds, self.request.seeds + self.request.confirm_seeds)
        return [Training(one, seed) for seed in seeds for one in chosen]


def open_search(request: ScalingRequest) -> ScalingSearch:
    """Look everything over and open the storage. Raises an EffgenError of one line for whatever would stop it later."""
    for option, value, least in (("--seeds", request.seeds, 1), ("--confirm-seeds", request.confirm_seeds, 0)):
        if not least <= value <= 1000:
            raise StudyError(f"{option} {value}: expected from {least} to 1000")
    if request.latency is not None:
        check_latency(request.latency)
    judge = open_judge(request.judge, request.folder / "checkpoints")
    spec = judge.fitted(load_spec(request.spec))
    grid = make_grid(spec, request.phi, request.grid)
    facts = {
        "kind": "scaling",
        "spec": spec.model_dump(mode="json"),
        "phi": request.phi,
        "seeds": request.seeds,
        "confirm_seeds": request.confirm_seeds,
        "grid": asdict(request.grid),
        "candidates": [candidate.key for candidate in grid.candidates],
        "retries": request.policy.retries,
        **judge.facts,
    }
    turns = turns_here()
    shared = open_study(request.storage, request.study, facts)
    try:
        search = ScalingSearch(request, judge, spec, grid, facts, turns, shared)
        if request.latency is not None:
            with closing(_latency_study(search, request.latency)) as latencies:
                _retried(request, latencies)
        return replace(search, retried=_retried(request, shared))
    except BaseException:
        shared.close()
        raise


def help_search(request: ScalingRequest) -> None:
    """What a further worker of the same machine does: trainings, until all are done."""
    search = open_search(replace(request, latency=None, retry_failed=False))
    with closing(search.shared):
        train_all(search)


def train_all(search: ScalingSearch, on_settled: OnSettled = lambda settled: None) -> None:
    """Train until all trainings are done, here or by other workers. Raises StudyError where all of them fail."""
    _train(search, search.searched, on_settled)
    trials, policy = search.shared.trials, search.request.policy
    found = samples(trials, search.searched, policy)
    if not any(candidate.key in found for candidate in search.grid.candidates):
        raise StudyError(f"{search.shared.where}: every training failed: {errors(trials, search.searched, policy)[0]}")
    _train(search, search.confirming, on_settled)


def finish(search: ScalingSearch, on_phase: OnPhase = lambda phase: None) -> ScalingReport:
    """Time the candidates, unless that was done, and put everything together."""
    request, known = search.request, (search.grid.unscaled, *search.grid.candidates)
    latencies = NO_LATENCIES
    if request.latency is not None:
        networks = {candidate.key: candidate.network for candidate in known}
        with closing(_latency_study(search, request.latency)) as shared:
            latencies = measure_latencies(shared, search.turns, networks, request.latency, request.policy, on_phase)
    return _report(search, latencies)


def _retried(request: ScalingRequest, shared: SharedStudy) -> int:
    return shared.retry_failed() if request.retry_failed else 0


def _latency_study(search: ScalingSearch, request: LatencyRequest) -> SharedStudy:
    return open_latencies(search.request.storage, search.request.study, search.facts, request)


def write_chosen(search: ScalingSearch, report: ScalingReport, path: Path, force: bool) -> None:
    """The baseline with the chosen coefficients as a spec file: scaled by phi it is the network that was trained.

    Raises BuildError where `path` may not be written.
    """
    chosen = report.chosen
    spec = with_coefficients(search.spec, chosen.alpha, chosen.beta, chosen.gamma)
    write_spec(spec, path, force, f"Scaling by {search.shared.where}: {chosen.kind}, phi {report.phi:g}.")


def _train(search: ScalingSearch, trainings: Sequence[Training], on_settled: OnSettled) -> None:
    by_key = {training.item.key: training for training in trainings}

    def objective(claim: Claim) -> float:
        assert claim.item is not None
        training, started = by_key[claim.item.key], time.monotonic()
        spec = training.candidate.network.spec
        work = (claim, search.judge, search.turns, spec, training.seed, claim.item.key)
        accuracy = judged(*work, lambda epoch: not claim.lost)
        claim.notes["seconds"] = round(time.monotonic() - started, 3)
        return accuracy

    run_items(search.shared, [training.item for training in trainings], objective, search.request.policy, on_settled)


def samples(trials: Sequence[FrozenTrial], trainings: Sequence[Training], policy: Policy) -> dict[str, Sample]:
    """The accuracies of each candidate that has some, by its key."""
    settled = settled_items(trials, [training.item for training in trainings], policy.retries)
    accuracies = {trial.user_attrs["item"]: trial.value for trial in settled if trial.state == TrialState.COMPLETE}
    values: dict[str, list[float]] = {}
    for training in trainings:
        accuracy = accuracies.get(training.item.key)
        if accuracy is not None:
            values.setdefault(training.candidate.key, []).append(float(accuracy))
    return {key: sample for key, found in values.items() if (sample := sample_of(found)) is not None}


def errors(trials: Sequence[FrozenTrial], trainings: Sequence[Training], policy: Policy) -> list[str]:
    """Why trainings have no accuracy, each reason once."""
    settled = settled_items(trials, [training.item for training in trainings], policy.retries)
    failed = [trial for trial in settled if trial.state == TrialState.FAIL]
    return list(dict.fromkeys(trial.user_attrs.get("error", "its workers were lost") for trial in failed))


def _report(search: ScalingSearch, latencies: Latencies) -> ScalingReport:
    request, grid, trials = search.request, search.grid, search.shared.trials
    parts = (search.searched, search.confirming)
    every = [*parts[0], *parts[1]]
    searched, confirmed = (samples(trials, part, request.policy) for part in parts)

    def row(candidate: Candidate) -> ScaledRow:
        found = (searched.get(candidate.key), confirmed.get(candidate.key))
        wanted = sum(training.candidate is candidate for training in every)
        missing = wanted - sum(len(sample.values) for sample in found if sample is not None)
        return row_from(candidate, grid, latencies, *found, missing)

    rows = ranked([row(candidate) for candidate in grid.candidates])
    compound, against = compared(rows, grid.left_out, request.confirm_seeds, search.judge.pictures)
    return ScalingReport(
        model=search.spec.name,
        phi=request.phi,
        goal=grid.goal,
        seeds=request.seeds,
        confirm_seeds=request.confirm_seeds,
        pictures=search.judge.pictures,
        baseline=row(grid.unscaled),
        rows=tuple(rows),
        chosen=choose(rows),
        compound=compound,
        against=against,
        left_out=grid.left_out,
        errors=tuple(errors(trials, every, request.policy)),
        machine=latencies.machine,
        threads=latencies.threads,
        measured=latencies.measured,
        study=search.shared.where,
        training_threads=training_threads_of(trials),
    )
