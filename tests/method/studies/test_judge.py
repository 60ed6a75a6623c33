"""What a search asks of networks: by effgen's trainer on pictures, or by a program of the user's."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from networks import tiny_spec
from PIL import Image

from effgen.errors import DataError, EffgenError, StudyError, TrainingError
from effgen.method.studies.judge import Judge, JudgeRequest, judged, open_judge
from effgen.method.studies.standings import Item
from effgen.method.studies.storage import open_study
from effgen.method.studies.turns import Turns
from effgen.method.studies.workers import Claim, run_items
from effgen.method.training.threads import TrainingThreads
from effgen.method.training.trainer import EpochResult
from effgen.network.spec import NetworkSpec

RECIPE = "epochs = 3\nbatch_size = 4\nwarmup_epochs = 1\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, dark and bright, of ten pictures each."""
    folder, noise = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, level in (("dark", 40), ("bright", 200)):
        (folder / name).mkdir()
        for number in range(10):
            pixels = (level + noise.integers(0, 40, (8, 8, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def judge(data: Path, tmp_path: Path) -> Judge:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return open_judge(
        JudgeRequest(data, tmp_path / "recipe.toml", threads=TrainingThreads(1)), tmp_path / "checkpoints"
    )


@pytest.fixture
def spec(judge: Judge) -> NetworkSpec:
    return judge.fitted(tiny_spec(resolution="8", repeats="1"))


def test_the_network_gets_the_classes_of_the_data(spec: NetworkSpec) -> None:
    assert spec.classifier.classes == 2


def test_an_accuracy_is_a_share_of_the_validation_pictures(judge: Judge, spec: NetworkSpec) -> None:
    assert judge.data is not None and judge.pictures == len(judge.data.val.files) > 1
    right = judge.accuracy(spec, 3, "first") * judge.pictures
    assert right == pytest.approx(round(right), abs=1e-6)


def test_the_same_seed_gives_the_same_accuracy_and_leaves_what_is_to_be_forgotten(
    judge: Judge, spec: NetworkSpec
) -> None:
    first, second = (judge.accuracy(spec, 1, key) for key in ("one", "other"))
    assert first == second and 0 <= first <= 1
    for key in ("one", "other", "never trained"):
        judge.forget(key)
    assert not list(judge.checkpoints.iterdir())


def test_a_training_that_was_cut_short_goes_on(judge: Judge, spec: NetworkSpec) -> None:
    whole: list[EpochResult] = []
    judge.accuracy(spec, 1, "whole", lambda result: not whole.append(result))

    def cut(result: EpochResult) -> bool:
        if result.epoch == 2:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        judge.accuracy(spec, 1, "cut", cut)
    assert judge.accuracy(spec, 1, "cut") == whole[-1].accuracy


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_checkpoint_stays_until_the_result_is_in_the_storage(
    judge: Judge, spec: NetworkSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    monkeypatch.setattr("effgen.method.studies.workers._PAUSES_S", (0.0,))
    trained, left = list[int](), iter(range(failures))

    def objective(claim: Claim) -> float:
        return judged(claim, judge, Turns(tmp_path), spec, 1, "key", lambda result: not trained.append(result.epoch))

    with closing(open_study(f"journal://{tmp_path}/log", "mine", {})) as shared:
        tell = shared.study.tell

        def told(*arguments: Any, **outcome: Any) -> Any:
            assert len(list(judge.checkpoints.iterdir())) == 1
            if next(left, None) is not None:
                raise optuna.exceptions.StorageInternalError("gone")
            return tell(*arguments, **outcome)

        monkeypatch.setattr(shared.study, "tell", told)
        with pytest.raises(StudyError, match="gone") if failures == 2 else nullcontext():
            run_items(shared, [Item("key", {})], objective)
    assert trained == [1, 2, 3]
    assert len(list(judge.checkpoints.iterdir())) == (failures == 2)


def test_a_training_that_diverged_leaves_nothing(judge: Judge, spec: NetworkSpec, tmp_path: Path) -> None:
    def objective(claim: Claim) -> float:
        def diverge(result: EpochResult) -> bool:
            raise TrainingError("diverged")

        return judged(claim, judge, Turns(tmp_path), spec, 1, "key", diverge)

    with closing(open_study(f"journal://{tmp_path}/log", "mine", {})) as shared:
        run_items(shared, [Item("key", {})], objective)
    assert not list(judge.checkpoints.iterdir())


@pytest.mark.parametrize("broken", ["work", "work/checkpoints"])
def test_a_place_for_checkpoints_that_is_none_is_refused_at_once(data: Path, tmp_path: Path, broken: str) -> None:
    (tmp_path / broken).parent.mkdir(exist_ok=True)
    (tmp_path / broken).write_text("")
    with pytest.raises(StudyError, match=r"--work .*work: .*cannot be written: .* is not a directory; give another"):
        open_judge(JudgeRequest(data), tmp_path / "work" / "checkpoints")


def test_trainings_of_other_searches_have_other_checkpoints(judge: Judge, tmp_path: Path) -> None:
    other = replace(judge, facts={**judge.facts, "data": "another"})
    assert judge._checkpoint("key") != other._checkpoint("key") != judge._checkpoint("other")


def test_facts_are_data_and_recipe_without_the_seed(judge: Judge, data: Path, tmp_path: Path) -> None:
    assert judge.facts["recipe"]["epochs"] == 3 and "seed" not in judge.facts["recipe"]
    (tmp_path / "seeded.toml").write_text(f"{RECIPE}seed = 7\n")
    assert open_judge(JudgeRequest(data, tmp_path / "seeded.toml"), tmp_path).facts == judge.facts


def test_a_program_judges_by_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def judge(spec, seed):\n    return spec.input.resolution / 100 + seed / 1000\n")
    judge = open_judge(JudgeRequest(trainer=f"{tmp_path / 'mine.py'}:judge"), tmp_path / "checkpoints")
    spec = tiny_spec()
    assert judge.fitted(spec) is spec and judge.accuracy(spec, 5, "key") == pytest.approx(0.325)
    assert judge.pictures is None
    assert not judge.checkpoints.exists()


def test_a_program_is_told_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    facts = []
    for folder, text in (("a", "1"), ("b", "1"), ("c", "0.5")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"def judge(spec, seed):\n    return {text}\n")
        facts.append(open_judge(JudgeRequest(trainer=f"{tmp_path}/{folder}/mine.py:judge"), tmp_path).facts)
    assert facts[0] == facts[1] != facts[2]


@pytest.mark.parametrize(
    "request_, error, told",
    [
        (JudgeRequest(), StudyError, "expected --data DIR, or --trainer"),
        (JudgeRequest(Path("d"), trainer="m:f"), StudyError, "not both"),
        (JudgeRequest(recipe=Path("r"), trainer="m:f"), StudyError, "--recipe r: belongs to --data"),
        (JudgeRequest(Path("nowhere")), DataError, "nowhere: does not exist"),
        (
            JudgeRequest(Path("nowhere"), threads=TrainingThreads(10**6)),
            TrainingError,
            "--threads 1000000: expected from 1 to",
        ),
        (JudgeRequest(Path("nowhere"), Path("no.toml")), TrainingError, "no.toml: cannot read the recipe"),
    ],
    ids=["nothing", "both", "recipe", "data", "threads", "no recipe"],
)
def test_what_makes_no_sense_is_refused(request_: JudgeRequest, error: type[EffgenError], told: str) -> None:
    with pytest.raises(error, match=told):
        open_judge(request_, Path("checkpoints"))
