"""Which networks a baseline search tries, and which it stops early: samplers and pruners of Optuna.

One objective, the reward, and not two: Optuna prunes only such studies. NSGA-II with one objective is a genetic
algorithm that keeps the best of parents and children, chooses parents by tournament, crosses and mutates them. The
front of accuracy and latency is computed from the trials; with MnasNet's small exponent networks all along it have
rewards alike, so the search does not run to one end.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from effgen.method.studies.space import NetworkSpace, Point

SamplerName = Literal["tpe", "evolution"]
PrunerName = Literal["median", "hyperband", "none"]

#: Shares of its decisions that a point of the first population draws anew, from near to far.
_REDRAWN = (0.1, 0.2, 0.3, 0.5)


def first_points(space: NetworkSpace, count: int, seed: int) -> list[Point]:
    """The starting network, then points around it, nearer and further ones in turn."""
    generator = random.Random(seed)
    points: list[Point] = [space.start_point]
    for index in range(count - 1):
        share = _REDRAWN[index % len(_REDRAWN)]
        point = dict(space.start_point)
        for key, values in space.choices.items():
            if generator.random() < share:
                point[key] = generator.choice(values)
        points.append(point)
    return points


def sampler_named(name: SamplerName, space: NetworkSpace, population: int, seed: int) -> BaseSampler:
    """The sampler of every worker: what it draws depends on the seed, the trial's number and the trials before it."""

    def make(seed: int) -> BaseSampler:
        if name == "tpe":
            with warnings.catch_warnings():  # several decisions at once, several workers: new in Optuna's 4th version
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return TPESampler(n_startup_trials=population, multivariate=True, constant_liar=True, seed=seed)
        return NSGAIISampler(population_size=population, seed=seed)

    return _BeginningAt(first_points(space, population, seed), make, seed)


def pruner_named(name: PrunerName, population: int, epochs: int) -> BasePruner:
    """What stops a trial whose reward is poor for the epochs that it has had.

    `median`: worse than half of the earlier trials were at that epoch, once a population has been trained to the end,
    and not in the first quarter of the epochs. `hyperband`: several such rules, from strict to none, over different
    trials.
    """
    if name == "none":
        return NopPruner()
    if name == "hyperband":
        return HyperbandPruner(min_resource=max(1, epochs // 9), max_resource=epochs)
    return MedianPruner(n_startup_trials=population, n_warmup_steps=epochs // 4 + 1)


class _BeginningAt(BaseSampler):  # type: ignore[misc]
    """Trial n is the n-th of `points`, whichever worker runs it; those after are drawn by a sampler of Optuna.

    That is made anew for each trial, with a seed of its own: workers that begin alike do not go on alike.
    """

    def __init__(self, points: Sequence[Point], make: Callable[[int], BaseSampler], seed: int) -> None:
        self._points, self._make, self._seed = points, make, seed
        self._inner = make(seed)

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner = self._make(random.Random(f"{self._seed} {trial.number}").getrandbits(32))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space: dict[str, BaseDistribution] = self._inner.infer_relative_search_space(study, trial)
        return space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn: dict[str, Any] = self._inner.sample_relative(
            study, trial, search_space
        )  # which also counts the trial's generation
        given = self._given(trial)
        return drawn if given is None else {key: given[key] for key in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        given = self._given(trial)
        if given is not None:
            return given[param_name]
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)

    def _given(self, trial: FrozenTrial) -> Mapping[str, Any] | None:
        return self._points[trial.number] if trial.number < len(self._points) else None
