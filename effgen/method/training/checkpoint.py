"""What a training leaves in files: where it stands after an epoch, and the weights that came out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from effgen.errors import TrainingError
from effgen.files.staging import staged_file
from effgen.files.strict import StrictModel
from effgen.graph import Weights
from effgen.method.training.data import DataSource
from effgen.method.training.recipe import Recipe
from effgen.network.spec import NetworkSpec

#: Changes when what a checkpoint holds, or how an epoch is computed, changes.
_FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """What a training is: SHA-256 of the scaled spec, of the recipe, and of the data set."""

    spec: str
    recipe: str
    data: str

    @staticmethod
    def of(spec: NetworkSpec, recipe: Recipe, data: DataSource) -> Identity:
        """The identity of training `spec` on `data` by `recipe`."""
        return Identity(_digest(spec), _digest(recipe), data.digest)


def _digest(model: StrictModel) -> str:
    return hashlib.sha256(json.dumps(model.model_dump(), sort_keys=True).encode()).hexdigest()


def write_checkpoint(path: Path, identity: Identity, state: dict[str, Any]) -> None:
    """Write `state` (tensors in plain containers) whole or not at all; a power cut afterwards does not lose it.

    Raises BuildError where it cannot be written.
    """
    content = {"format": _FORMAT, "identity": vars(identity), "state": state}
    with staged_file(path, force=True) as staging, staging.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # PyTorch's own words about a file that is too short, where the disk is full
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path, identity: Identity, device: torch.device) -> dict[str, Any]:
    """The state that `write_checkpoint` wrote, its tensors on `device`; no code in the file is run.

    Raises TrainingError with one line where the file is none, or of a training that is not `identity`.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        found, written, state = content["identity"], content["format"], content["state"]
    except OSError as error:
        raise TrainingError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from None
    except (torch.OutOfMemoryError, MemoryError):  # no fault of the file's
        raise
    except Exception:  # foreign bytes make torch.load raise whatever its parser trips over
        raise TrainingError(f"{path}: not a checkpoint of effgen's, or damaged; remove it to start anew") from None
    if written != _FORMAT:
        raise TrainingError(f"{path}: written by another version of effgen; remove it to start anew")
    others = [name for name, value in vars(identity).items() if found.get(name) != value]
    if others:
        raise TrainingError(
            f"{path}: a checkpoint of a training with another {', another '.join(others)}; remove it to start anew"
        )
    checked: dict[str, Any] = state
    return checked


def save_weights(weights: Weights, path: Path, force: bool = False, classes: Sequence[str] = ()) -> None:
    """Write float32 arrays under the graph's names as .safetensors, which `effgen compile --weights` takes, and the
    names of `classes`, where given, to `labels_beside(path)`, which `--labels` takes.

    Whole or not at all. Raises BuildError where `path` exists without `force` or cannot be written.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    with staged_file(path, force) as staging:
        staging.write_bytes(save(arrays))
        if classes:
            labels_beside(staging).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def labels_beside(weights: Path) -> Path:
    """The file of the classes' names that belongs to a file of weights: `b0.safetensors` -> `b0.labels.txt`."""
    return weights.with_suffix(".labels.txt")
