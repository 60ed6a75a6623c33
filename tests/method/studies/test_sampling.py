"""Samplers and pruners of a baseline search: where they begin, what they repeat, and that they get somewhere."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import pytest
from networks import tiny_spec

from effgen.method.studies.sampling import PrunerName, SamplerName, first_points, pruner_named, sampler_named
from effgen.method.studies.space import Point, space_around
from effgen.network.lowering.network import lower

SPACE = space_around(tiny_spec())
SAMPLERS: tuple[SamplerName, ...] = ("tpe", "evolution")


def test_first_points_are_the_start_and_what_is_around_it() -> None:
    points = first_points(SPACE, 9, seed=3)
    assert points[0] == SPACE.start_point and points == first_points(SPACE, 9, seed=3)
    assert points[1:] != first_points(SPACE, 9, seed=4)[1:]

    def redrawn(point: Point) -> int:
        return sum(point[key] != SPACE.start_point[key] for key in SPACE.choices)

    many = [redrawn(point) for point in first_points(SPACE, 401, seed=0)[1:]]
    near, far = sum(many[0::4]) / 100, sum(many[3::4]) / 100
    assert 0 < near < far < len(SPACE.choices) / 2
    assert all(point[key] in values for point in points for key, values in SPACE.choices.items())


def value_of(trial: optuna.Trial) -> float:
    """Small networks are good, large kernels too: a trade-off within every stage."""
    point = {key: trial.suggest_categorical(key, values) for key, values in SPACE.choices.items()}
    kernels = sum(int(point[f"stages.{index}.kernel"]) for index in range(3))
    return kernels / (lower(SPACE.spec_at(point, "drawn")).macs / 1e6)


def study_with(sampler: SamplerName, seed: int, trials: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=sampler_named(sampler, SPACE, 8, seed))
    study.optimize(value_of, n_trials=trials)
    return study


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_search_begins_at_the_first_points_and_gets_further(sampler: SamplerName) -> None:
    study = study_with(sampler, 0, 40)
    assert [trial.params for trial in study.trials[:8]] == first_points(SPACE, 8, 0)
    values = [trial.value for trial in study.trials]
    assert max(values[8:]) > max(values[:8])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_drawn_depends_on_the_seed_and_the_trials_alone(sampler: SamplerName, tmp_path: Path) -> None:
    whole = [trial.params for trial in study_with(sampler, 5, 14).trials]
    assert [trial.params for trial in study_with(sampler, 6, 14).trials][8:] != whole[8:]
    # Another worker, or one that was started again, draws what the first would have.
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "log")))
    for _ in range(2):
        study = optuna.create_study(
            direction="maximize",
            sampler=sampler_named(sampler, SPACE, 8, 5),
            storage=storage,
            study_name="shared",
            load_if_exists=True,
        )
        study.optimize(value_of, n_trials=7)
    assert [trial.params for trial in study.trials] == whole
    assert all(one != other for one, other in pairwise(whole[8:]))


def stopped_at(pruner: PrunerName, curves: list[list[float]], population: int = 2) -> list[int]:
    """After how many epochs each trial ended."""
    study = optuna.create_study(direction="maximize", pruner=pruner_named(pruner, population, len(curves[0])))
    ends = []
    for curve in curves:
        trial = study.ask()
        for epoch, value in enumerate(curve, start=1):
            trial.report(value, epoch)
            if trial.should_prune():
                break
        ends.append(epoch)
        pruned = epoch < len(curve)
        study.tell(trial, None if pruned else value, optuna.trial.TrialState.PRUNED if pruned else None)
    return ends


GOOD, POOR = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.9, 0.9], [0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]


def test_median_stops_the_poor_after_a_quarter_and_never_the_first() -> None:
    assert stopped_at("median", [POOR, GOOD, GOOD, POOR, GOOD]) == [8, 8, 8, 3, 8]
    assert stopped_at("median", [GOOD, POOR], population=1) == [8, 3]


def test_other_pruners() -> None:
    assert stopped_at("none", [GOOD, GOOD, GOOD, POOR]) == [8, 8, 8, 8]
    ends = stopped_at("hyperband", [GOOD] * 12 + [POOR] * 12)
    assert ends[0] == 8 and min(ends[12:]) < 8


def test_pruners_take_any_number_of_epochs() -> None:
    pruners: tuple[Any, ...] = ("median", "hyperband", "none")
    for pruner in pruners:
        assert stopped_at(pruner, [[0.5], [0.4], [0.3]])
