"""How a search finds out what a network learns: effgen's trainer on a folder of pictures, or the user's own program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from effgen.errors import StudyError
from effgen.spec import NetworkSpec
from effgen.training.data import DataSource, fitted_to, open_data
from effgen.training.entry_point import Evaluate, load_entry_point
from effgen.training.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from effgen.training.trainer import EpochResult

#: Told of each epoch's accuracy; False ends the training.
OnEpoch: TypeAlias = "Callable[[EpochResult], bool]"


@dataclass(frozen=True)
class JudgeRequest:
    """What was asked for: a folder of pictures and a recipe (None: the default one), or the user's program.

    `threads`: of PyTorch in each training, None: as many as it takes by itself.
    """

    data: Path | None = None
    recipe: Path | None = None
    trainer: str | None = None
    threads: int | None = None


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
    threads: int | None = None

    @property
    def pictures(self) -> int | None:
        """How many pictures an accuracy is a share of; None where only the user's program knows."""
        return None if self.data is None else len(self.data.val)

    def fitted(self, spec: NetworkSpec) -> NetworkSpec:
        """The spec with the data set's classes; as it is where the user's program knows the data."""
        return spec if self.data is None else fitted_to(spec, self.data)

    def accuracy(self, spec: NetworkSpec, seed: int, key: str, on_epoch: OnEpoch = lambda result: True) -> float:
        """Train the scaled, fitted `spec` and return its accuracy, 0..1.

        A training that was cut short goes on from its checkpoint. Raises TrainingError (DataError) where it fails.
        """
        if self.program is not None:
            return self.program(spec, seed)
        from effgen.training.trainer import train  # PyTorch takes seconds, and the user's program may not need it

        assert self.data is not None and self.recipe is not None
        checkpoint = self._checkpoint(key)
        recipe = self.recipe.model_copy(update={"seed": seed})
        try:
            trained = train(spec, self.data, recipe, checkpoint, on_epoch, self.threads)
        except StudyError:  # from `on_epoch`: the storage is out of reach, and the training goes on another time
            raise
        except Exception:
            checkpoint.unlink(missing_ok=True)
            raise
        checkpoint.unlink(missing_ok=True)
        return trained.accuracy

    def _checkpoint(self, key: str) -> Path:
        """A file of its own for each training of each search."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(json.dumps([self.facts, key], sort_keys=True).encode()).hexdigest()
        return self.checkpoints / f"{name[:32]}.ckpt"


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
    recipe, data = load_recipe(request.recipe), open_data(request.data)
    # Each trial has a seed of its own.
    facts = {"data": data.digest, "recipe": recipe.model_dump(mode="json", exclude={"seed"})}
    return Judge(facts, checkpoints, data, recipe, threads=request.threads)


def _program_facts(text: str) -> dict[str, str]:
    """What tells a user's program: a module by its name, a file by its content, wherever it lies on each machine."""
    where, _, function = text.rpartition(":")
    if not where.endswith(".py"):
        return {"module": where, "function": function}
    path = Path(where)
    return {"file": path.name, "function": function, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
