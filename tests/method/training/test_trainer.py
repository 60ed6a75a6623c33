"""Training as a whole: it learns, it is the same each time, and an interruption changes nothing."""

import copy
import operator
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning import quick, small_spec, striped_data

from effgen.errors import BuildError, TrainingError
from effgen.graph.reference import run_reference
from effgen.method.training import trainer
from effgen.method.training.checkpoint import labels_beside, save_weights
from effgen.method.training.data import DataSource
from effgen.method.training.trainer import EpochResult, Trained, train
from effgen.network.checkpoints import load_checkpoint
from effgen.network.lowering.network import lower
from effgen.runtime.picture import Preparation

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    return striped_data(tmp_path_factory.mktemp("stripes") / "d")


def same(a: Trained, b: Trained) -> bool:
    equal = all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)
    return equal and replace(a, seconds=0.0) == replace(b, seconds=0.0)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_it_learns(optimizer: str, data: DataSource) -> None:
    recipe = quick(epochs=12, optimizer=optimizer, learning_rate=1e-2, drop_connect=0.1, augment={"flip": True})
    trained = train(small_spec(data), data, recipe)
    assert trained.accuracy == trained.history[-1].accuracy == 1.0
    assert trained.epochs == len(trained.history) == 12 and trained.seconds > 0
    assert trained.history[-1].loss < 0.6 * trained.history[0].loss


def test_the_weights_give_the_accuracy(data: DataSource) -> None:
    """As a bundle would: pictures prepared by numpy, the graph run by the judge."""
    spec = small_spec(data)
    trained = train(spec, data, quick())
    image = spec.input
    prepare = Preparation(3, 16, 16, image.interpolation, tuple(image.mean), tuple(image.std))
    graph = lower(spec)
    answers = [run_reference(graph, trained.weights, prepare(file)[None]).argmax() for file in data.val.files]
    assert np.mean(np.equal(answers, data.val.labels)) == trained.accuracy


def test_the_same_seed_gives_the_same_weights_and_another_others(data: DataSource) -> None:
    recipe = quick(drop_connect=0.3, augment={"shift": 0.2, "rotate": 10})
    first, second = (train(small_spec(data), data, recipe) for _ in range(2))
    assert same(first, second)
    assert not same(first, train(small_spec(data), data, recipe.model_copy(update={"seed": 1})))


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
@pytest.mark.parametrize("during", ["between epochs", "in an epoch"])
def test_interrupted_and_resumed_is_the_same(
    optimizer: str, during: str, data: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, file = small_spec(data), tmp_path / "c"
    recipe = quick(epochs=4, optimizer=optimizer, drop_connect=0.3, augment={"shift": 0.2})
    whole = train(spec, data, recipe)

    def stop(result: EpochResult) -> bool:
        if result.epoch == 2:
            raise KeyboardInterrupt
        return True

    with monkeypatch.context() as patch:
        if during == "in an epoch":
            patch.setattr(trainer._Training, "_step", stops_at_step(8))
        with pytest.raises(KeyboardInterrupt):
            train(spec, data, recipe, file, stop if during == "between epochs" else lambda result: True)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    seen = []

    def note(result: EpochResult) -> bool:
        seen.append(result)
        return True

    resumed = train(spec, data, recipe, file, note)
    assert same(whole, resumed) and tuple(seen) == whole.history
    assert same(whole, train(spec, data, recipe, file))  # nothing is left to do


def stops_at_step(number: int) -> Callable[..., Any]:
    step = trainer._Training._step

    def stopping(self: Any, index: int, *batch: Any) -> Any:
        if index == number:
            raise KeyboardInterrupt
        return step(self, index, *batch)

    return stopping


def test_false_ends_a_training(data: DataSource, tmp_path: Path) -> None:
    pruned = train(small_spec(data), data, quick(), tmp_path / "c", lambda result: result.epoch < 2)
    assert pruned.epochs == 2
    assert same(pruned, train(small_spec(data), data, quick(), tmp_path / "c", lambda result: result.epoch < 2))


def test_checkpoints_of_other_trainings_are_refused(data: DataSource, tmp_path: Path) -> None:
    file, spec = tmp_path / "c", small_spec(data)
    train(spec, data, quick(epochs=2), file)
    other_data = striped_data(tmp_path / "other", each=4)

    def refused(message: str, *arguments: Any) -> None:
        with pytest.raises(TrainingError, match=message) as error:
            train(*arguments, file)
        assert "\n" not in str(error.value) and str(file) in str(error.value)

    refused("another recipe; remove it", spec, data, quick(epochs=3))
    refused("another spec; remove it", small_spec(data, activation='"relu"'), data, quick(epochs=2))
    refused("another recipe, another data; remove it", spec, other_data, quick(epochs=3))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    refused("not a checkpoint of effgen's, or damaged; remove it", spec, data, quick(epochs=2))
    torch.save({"network": {}}, file)
    refused("not a checkpoint of effgen's, or damaged; remove it", spec, data, quick(epochs=2))


def test_checkpoints_with_the_right_names_and_other_contents(data: DataSource, tmp_path: Path) -> None:
    """Each state but one is refused in a line; rates are the recipe's, whatever the file says."""
    file, spec, recipe = tmp_path / "c", small_spec(data), quick(epochs=2)
    whole = train(spec, data, recipe, file, lambda result: False)
    good = torch.load(file, weights_only=True)

    def weights(state: Any) -> Any:
        return state["network"], next(iter(state["network"]))

    def memory(state: Any) -> Any:
        return state["optimizer"]["state"][0]

    edits: list[Callable[[Any], Any]] = [
        lambda state: state.clear(),
        lambda state: operator.setitem(*weights(state), 5),
        lambda state: operator.setitem(*weights(state), torch.empty(8, 3, 3, 3, device="meta")),
        lambda state: operator.setitem(*weights(state), torch.zeros(1).expand(2**40)),
        lambda state: operator.setitem(*weights(state), torch.zeros(2, 2).to_sparse()),
        lambda state: operator.setitem(state, "history", []),
        lambda state: operator.setitem(state, "history", [{"epoch": "one"}]),
        lambda state: operator.setitem(state, "history", [{"epoch": 1, "loss": float("nan"), "accuracy": 0.5}]),
        lambda state: operator.setitem(state, "seconds", "long"),
        lambda state: operator.setitem(state, "optimizer", 5),
        lambda state: memory(state).popitem(),
        lambda state: memory(state).update(exp_avg=torch.zeros(3)),
        lambda state: memory(state).update(step=torch.zeros(9)),
        lambda state: memory(state).update(exp_avg=None),
        lambda state: state["optimizer"]["param_groups"].pop(),
    ]
    for edit in edits:
        content = copy.deepcopy(good)
        edit(content["state"])
        torch.save(content, file)
        with pytest.raises(TrainingError, match="not a checkpoint of effgen's, or damaged; remove it"):
            train(spec, data, recipe, file)
    for identity in (5, {}, {"spec": []}):
        torch.save({**good, "identity": identity}, file)
        with pytest.raises(TrainingError, match="remove it to start anew"):
            train(spec, data, recipe, file)
    for group in good["state"]["optimizer"]["param_groups"]:
        group |= {"betas": "none", "weight_decay": 1e9}
    torch.save(good, file)
    assert same(train(spec, data, recipe, file), train(spec, data, recipe)) and whole.epochs == 1


def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_work(data: DataSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BuildError, match="cannot be written"):
        train(small_spec(data), data, quick(), tmp_path / "file" / "c", lambda result: pytest.fail("trained"))


def test_a_training_that_diverges_says_so(data: DataSource, tmp_path: Path) -> None:
    recipe = quick(epochs=8, warmup_epochs=0, learning_rate=100, weight_decay=10)  # a kernel grows by 1000 a step
    with pytest.raises(TrainingError, match=r"tiny: diverged in epoch \d: loss \S+; expected finite") as error:
        train(small_spec(data), data, recipe, tmp_path / "c")
    assert "\n" not in str(error.value)


def test_threads_are_given_back(data: DataSource) -> None:
    torch.set_num_threads(3)
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train(small_spec(data), data, quick(), None, lambda result: stopped(seen), threads=1)
    assert (seen, torch.get_num_threads()) == ([1], 3)


@pytest.mark.parametrize("batch_size", [4, 1000])
def test_no_more_pictures_are_judged_than_learned_from_at_once(
    batch_size: int, data: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    call = trainer.TrainableNetwork.__call__

    def counted(self: Any, image: torch.Tensor) -> Any:
        seen.append(len(image))
        return call(self, image)

    monkeypatch.setattr(trainer.TrainableNetwork, "__call__", counted)
    few = replace(data, train=data.val, val=data.train)  # more to judge by than to learn from
    train(small_spec(few), few, quick(epochs=1, warmup_epochs=0, batch_size=batch_size))
    assert len(seen) > 1 and max(seen) == min(batch_size, len(few.train))


def cpu_memory_ends(*batch: Any) -> None:
    torch.empty(10**15)


def gpu_memory_ends(*batch: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


@pytest.mark.parametrize("method", ["_step", "_accuracy"])
@pytest.mark.parametrize("ends", [cpu_memory_ends, gpu_memory_ends], ids=["CPU", "GPU"])
def test_too_little_memory_is_one_line(
    method: str, ends: Callable[..., None], data: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer._Training, method, ends)
    with pytest.raises(TrainingError, match=r"tiny: not enough memory .* 16 pixels with batch_size 8: lower") as error:
        train(small_spec(data), data, quick())
    assert "\n" not in str(error.value)


def test_a_full_disk_keeps_the_checkpoint_before(data: DataSource, tmp_path: Path) -> None:
    file = tmp_path / "t.ckpt"
    whole = train(small_spec(data), data, quick(epochs=3))

    def fill_up(result: EpochResult) -> bool:
        if result.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # what a file may have: this process's disk
        return True

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(BuildError, match=r"t\.ckpt: cannot be written: File too large"):
            train(small_spec(data), data, quick(epochs=3), file, fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [file]
    assert same(train(small_spec(data), data, quick(epochs=3), file), whole)


def test_too_little_memory_for_a_checkpoint_is_no_damage(
    data: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small_spec(data), data, quick(), tmp_path / "c", lambda result: False)
    monkeypatch.setattr(torch, "from_numpy", lambda array: gpu_memory_ends())
    with pytest.raises(TrainingError, match="tiny: not enough memory"):
        train(small_spec(data), data, quick(), tmp_path / "c")


def test_other_failures_of_pytorch_stay_what_they_are(data: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer._Training, "_step", lambda *batch: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        train(small_spec(data), data, quick())


@pytest.mark.parametrize("count", [0, 10**11])
def test_threads_that_no_machine_has_are_refused(count: int, data: DataSource) -> None:
    with pytest.raises(TrainingError, match=f"--threads {count}: expected from 1 to"):
        train(small_spec(data), data, quick(), threads=count)


def stopped(threads: list[int]) -> bool:
    threads.append(torch.get_num_threads())
    raise KeyboardInterrupt


def test_batches_larger_than_the_data_set(data: DataSource) -> None:
    assert train(small_spec(data), data, quick(batch_size=1000)).epochs == 3


def test_weights_travel_by_file(data: DataSource, tmp_path: Path) -> None:
    spec, file = small_spec(data), tmp_path / "w.safetensors"
    trained = train(spec, data, quick())
    save_weights(trained.weights, file, classes=data.classes)
    loaded = load_checkpoint(file, lower(spec))
    assert loaded.naming == "effgen"
    for name, array in trained.weights.items():
        np.testing.assert_array_equal(loaded.weights[name], array)
    assert labels_beside(file).read_text() == "level\nupright\n"
    with pytest.raises(BuildError, match="exists already"):
        save_weights(trained.weights, file)
