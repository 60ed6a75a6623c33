"""How a search finds out what a network learns: effgen's trainer on a folder of pictures, or the user's own program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from effgen.errors import BuildError, StudyError
from effgen.files.staging import check_file
from effgen.method.training.data import DataSource, fitted_to, open_data
from effgen.method.training.entry_point import Evaluate, load_entry_point
from effgen.method.training.recipe import Recipe, load_recipe
from effgen.method.training.threads import TrainingThreads, check_threads, training_threads
from effgen.network.lowering.network import lower
from effgen.network.spec import NetworkSpec

if TYPE_CHECKING:
    from effgen.method.studies.turns import Turns
    from effgen.method.studies.workers import Claim
    from effgen.method.training.trainer import EpochResult

#: Told of each epoch's accuracy; False ends the training.
OnEpoch: TypeAlias = "Callable[[EpochResult], bool]"


@dataclass(frozen=True)
class JudgeRequest:
    """What was asked for: a folder of pictures and a recipe (None: the default one), or the user's program.

    `threads` are those of a training, None: as `training_threads` has it for one worker alone.
    """

    data: Path | None = None
    recipe: Path | None = None
    trainer: str | None = None
    threads: TrainingThreads | None = None


@dataclass(frozen=True)
class Judge:
    """Accuracy of scaled networks. `facts` are what it depends on; `checkpoints` is the folder of unfinished trainings.

    `key` of a training names it among all those of one search.
    """

    facts: Mapping[str, Any]
    checkpoints: Path
    data: DataSource | None = None
    recipe: Recipe | None = None
    program: Evaluate | None = None
    threads: TrainingThreads | None = None

    @property
    def pictures(self) -> int | None:
        """How many pictures an accuracy is a share of; None where only the user's program knows."""
        return None if self.data is None else len(self.data.val)

    def fitted(self, spec: NetworkSpec) -> NetworkSpec:
        """The spec with the data set's classes; as it is where the user's program knows the data."""
        return spec if self.data is None else fitted_to(spec, self.data)

    def accuracy(self, spec: NetworkSpec, seed: int, key: str, on_epoch: OnEpoch = lambda result: True) -> float:
        """Train the scaled, fitted `spec` and return its accuracy, 0..1.

        A training that was cut short goes on from its checkpoint, which stays until `forget`. Raises TrainingError
        where it fails, DataError or BuildError where this machine has lost its pictures or the room for a checkpoint.
        """
        if self.program is not None:
            return self.program(spec, seed)
        from effgen.method.training.trainer import (
            train,  # PyTorch takes seconds, and the user's program may not need it
        )

        assert self.data is not None and self.recipe is not None
        checkpoint = self._checkpoint(key)
        recipe = self.recipe.model_copy(update={"seed": seed})
        threads, readers = self.threads_of(spec), None if self.threads is None else self.threads.most
        return train(spec, self.data, recipe, checkpoint, on_epoch, threads, readers).accuracy

    def threads_of(self, spec: NetworkSpec) -> int | None:
        """PyTorch's threads in a training of the scaled, fitted `spec`; None where the user's program decides."""
        if self.data is None or self.recipe is None or self.threads is None:
            return None
        return self.threads.of(lower(spec), min(self.recipe.batch_size, len(self.data.train)))

    def forget(self, key: str) -> None:
        """Remove what is left of a training whose result is kept elsewhere."""
        with suppress(OSError):  # then it lies there for nothing
            self._checkpoint(key).unlink(missing_ok=True)

    def _checkpoint(self, key: str) -> Path:
        """A file of its own for each training of each search."""
        name = hashlib.sha256(json.dumps([self.facts, key], sort_keys=True).encode()).hexdigest()
        return self.checkpoints / f"{name[:32]}.ckpt"


def judged(
    claim: Claim, judge: Judge, turns: Turns, spec: NetworkSpec, seed: int, key: str, on_epoch: OnEpoch
) -> float:
    """The accuracy of a trial's network by `judge`, as `Judge.accuracy`; the machine is left, between epochs, to those
    who measure. What the training leaves on the disk is kept until the trial's end is in the storage."""
    claim.when_over(partial(judge.forget, key))
    if judge.program is not None:
        return judge.accuracy(spec, seed, key)
    claim.notes["threads"] = judge.threads_of(spec)
    with turns.training() as take_turn:

        def after_epoch(result: EpochResult) -> bool:
            take_turn()
            return on_epoch(result)

        return judge.accuracy(spec, seed, key, after_epoch)


def open_judge(request: JudgeRequest, checkpoints: Path) -> Judge:
    """Look data, recipe or program over. Raises StudyError for a mix that makes no sense, else as their readers do."""
    if (request.data is None) == (request.trainer is None):
        raise StudyError("expected --data DIR, or --trainer module:function with the data it knows, and not both")
    if request.trainer is not None:
        if request.recipe is not None:
            raise StudyError(f"--recipe {request.recipe}: belongs to --data; {request.trainer} trains as it likes")
        program = load_entry_point(request.trainer)
        return Judge({"trainer": _program_facts(request.trainer)}, checkpoints, program=program)
    assert request.data is not None
    _check_folder(checkpoints)
    threads = request.threads or training_threads()
    check_threads(threads.most)
    recipe, data = load_recipe(request.recipe), open_data(request.data)
    # Each trial has a seed of its own.
    facts = {"data": data.digest, "recipe": recipe.model_dump(mode="json", exclude={"seed"})}
    return Judge(facts, checkpoints, data, recipe, threads=threads)


def _check_folder(checkpoints: Path) -> None:
    """Raise StudyError where no checkpoint could be written, which would be noticed after an epoch only."""
    try:
        check_file(checkpoints / "checkpoint", force=True)
    except BuildError as error:
        raise StudyError(f"--work {checkpoints.parent}: {error}; give another folder") from None


def _program_facts(text: str) -> dict[str, str]:
    """What tells a user's program: a module by its name, a file by its content, wherever it lies on each machine."""
    where, _, function = text.rpartition(":")
    if not where.endswith(".py"):
        return {"module": where, "function": function}
    path = Path(where)
    return {"file": path.name, "function": function, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
