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

from effgen.errors import TrainingError, WeightsError
from effgen.files.bounded import MOST_WEIGHTS_BYTES, UnreadableError, read_bytes
from effgen.files.staging import staged_file
from effgen.files.strict import StrictModel
from effgen.graph import Weights
from effgen.method.training.data import DataSource
from effgen.method.training.recipe import Recipe
from effgen.network.spec import NetworkSpec
from effgen.network.stored_tensor import NotTorchError, StoredTensor
from effgen.network.torch_file import content_of_torch_file

#: The types of the tensors in a state: as safetensors calls them, of those that numpy has too.
_DTYPES = ("F64", "F32", "F16", "I64", "I32", "U8")

#: Weights, their average and an optimizer's two memories of them.
_MOST_BYTES = 4 * MOST_WEIGHTS_BYTES

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
        data = read_bytes(path, _MOST_BYTES)
    except UnreadableError as error:
        raise TrainingError(f"{path}: cannot read the checkpoint: {error}") from None
    try:
        content = content_of_torch_file(data)
        if not isinstance(content, dict) or not {"identity", "format", "state"} <= content.keys():
            raise NotTorchError("another content")
        found, written, state = content["identity"], content["format"], _as_saved(content["state"], len(data), device)
        if not isinstance(found, dict) or not isinstance(state, dict):
            raise NotTorchError("another content")
    except WeightsError:
        raise not_restored(path) from None
    if written != _FORMAT:
        raise TrainingError(f"{path}: written by another version of effgen; remove it to start anew")
    others = [name for name, value in vars(identity).items() if found.get(name) != value]
    if others:
        raise TrainingError(
            f"{path}: a checkpoint of a training with another {', another '.join(others)}; remove it to start anew"
        )
    checked: dict[str, Any] = state
    return checked


def _as_saved(value: Any, most: int, device: torch.device) -> Any:
    """The same with tensors of PyTorch's for those of the file, on `device`. Raises NotTorchError for one that is no
    plain tensor, or whose numbers are not all in the file, of which `most` bytes are."""
    if isinstance(value, dict):
        return {key: _as_saved(entry, most, device) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_as_saved(entry, most, device) for entry in value)
    if not isinstance(value, StoredTensor):
        return value
    if value.dtype not in _DTYPES or value.size > most:
        raise NotTorchError("a tensor that no training has")
    return torch.from_numpy(value.elements().copy(order="K")).to(device)


def not_restored(path: Path) -> TrainingError:
    """What to say of a file that holds no state of a training here."""
    return TrainingError(f"{path}: not a checkpoint of effgen's, or damaged; remove it to start anew")


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
