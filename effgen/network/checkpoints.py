"""Checkpoint files of torchvision, timm, efficientnet_pytorch and effgen -> the parameters of an unfolded graph.

Files are taken as training scripts leave them: `torch_file.py` and safetensors read one, `weight_sets.py` finds the
weights in it, `checkpoint_names.py` knows whose names they have, and `evidence.py` holds what else the file says
against the graph, because a checkpoint holds neither batch norm's epsilon nor the padding: those come with the request
(`--norm-eps`, `--padding`). Nothing is guessed: every parameter of the graph must be in the file, with its shape, and
every tensor of the set must have a place in the graph. Only counters, such as `num_batches_tracked`, are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from effgen.errors import WeightsError
from effgen.files.bounded import MOST_JSON_BYTES, MOST_WEIGHTS_BYTES, UnreadableError, read_bytes, value_from_json
from effgen.files.contents import PYTORCH, kind_of_bytes
from effgen.graph import Graph, Weights
from effgen.network.checkpoint_names import Naming
from effgen.network.evidence import check_hidden_layers, claim_of, warnings_of
from effgen.network.misfit import misfit
from effgen.network.pickles import UnsafeFileError
from effgen.network.stored_tensor import FLOATS, STORED_DTYPES, NotTorchError, StoredTensor
from effgen.network.torch_file import content_of_torch_file
from effgen.network.weight_sets import WeightsChoice, WeightSet, chosen_set

_Arrays: TypeAlias = dict[str, NDArray[np.float32]]

#: The set of weights that is meant, its names as they are.
AS_MEANT = WeightsChoice()

#: A safetensors file begins with its header's length in so many bytes.
_HEADER_AT = 8


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a graph as read from a file: float32 arrays by the graph's names, and where they come from.

    `key` is which of the file's sets of weights it is, `others` are those that were not taken, `left_out` names beside
    it that are no part of the network; `model` is the original's name, where the file tells one. `warnings` lack the
    file's name.
    """

    weights: Weights
    naming: Naming
    sha256: str
    key: str = ""
    others: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    model: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest says of them; what is empty is left out."""
        facts = {field: value for field, value in vars(self).items() if field != "weights" and value}
        return {field: list(value) if isinstance(value, tuple) else value for field, value in facts.items()}


def load_checkpoint(path: Path, graph: Graph, choice: WeightsChoice = AS_MEANT) -> Checkpoint:
    """Read what torch.save wrote (no code is run) or a safetensors file into the parameters of unfolded `graph`.

    Half and double precision become float32. Raises WeightsError with one line where the file cannot be read, holds
    anything but finite tensors, has names of no known kind, does not fit the graph, or says that it is of a network
    with layers that the graph lacks.
    """
    data = _file_bytes(path)
    try:
        content, metadata = _read(path, data)
        found = chosen_set(content, choice)
        claim = claim_of(path, content, metadata)
        check_hidden_layers(claim)
        weights = _fitted(graph, found)
        _check_values(graph, weights)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    warnings = warnings_of(graph, found.scheme.naming, claim, found.steps)
    return Checkpoint(
        weights=weights,
        naming=found.scheme.naming,
        sha256=hashlib.sha256(data).hexdigest(),
        key=found.label,
        others=found.others,
        left_out=found.left_out,
        model=claim.model if claim else None,
        warnings=warnings,
    )


def _file_bytes(path: Path) -> bytes:
    """The whole file, read once: what is hashed is what is loaded."""
    try:
        return read_bytes(path, MOST_WEIGHTS_BYTES)
    except UnreadableError as error:
        raise WeightsError(f"{path}: cannot read the checkpoint: {error}") from None


def _read(path: Path, data: bytes) -> tuple[Any, Mapping[str, str]]:
    """What the file holds and its metadata. Its bytes tell its format, whatever it is called."""
    if _begins_as_safetensors(data):
        return _read_safetensors(data)
    try:
        return content_of_torch_file(data), {}
    except UnsafeFileError as error:
        raise WeightsError(
            f"holds a Python object ({error}), which is not loaded because that can run code: a checkpoint has no use "
            "for it; do not trust this file"
        ) from None
    except NotTorchError as error:
        kind = kind_of_bytes(data)
        if kind is not None and kind is not PYTORCH:
            raise WeightsError(f"is {kind}") from None
        if path.suffix.lower() == ".safetensors":
            raise WeightsError("not a safetensors file, or damaged or cut short") from None
        raise WeightsError(
            f"not a PyTorch checkpoint, or damaged or cut short ({error}): expected what "
            "torch.save(model.state_dict()) writes, or a .safetensors file"
        ) from None


def _begins_as_safetensors(data: bytes) -> bool:
    length = int.from_bytes(data[:_HEADER_AT], "little")
    return data[_HEADER_AT : _HEADER_AT + 1] == b"{" and length < 2**32


def _read_safetensors(data: bytes) -> tuple[dict[str, StoredTensor], Mapping[str, str]]:
    from safetensors import SafetensorError, deserialize

    length = int.from_bytes(data[:_HEADER_AT], "little")
    if length > MOST_JSON_BYTES:
        raise WeightsError("not a safetensors file: its header is longer than 16 MiB")
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise WeightsError(f"not a safetensors file, or damaged or cut short: {error}") from None
    try:
        header = value_from_json(data[_HEADER_AT : _HEADER_AT + length])
    except UnreadableError as error:
        raise WeightsError(f"not a safetensors file: {error}") from None
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in STORED_DTYPES:
            raise WeightsError(f"{name} is {entry['dtype']}: expected {_listed_floats()}")
        tensors[name] = StoredTensor.of_bytes(entry["dtype"], entry["shape"], entry["data"])
    return tensors, header.get("__metadata__") or {}


def _fitted(graph: Graph, found: WeightSet) -> _Arrays:
    """The arrays under the graph's names, or one WeightsError about all that does not fit.

    Types and shapes first: a tensor of a few bytes may be stretched to any size, and no number of one that does not
    fit is looked at.
    """
    for name, tensor in found.tensors.items():
        if tensor.dtype not in FLOATS:
            raise WeightsError(f"{name} is {tensor.dtype}: expected {_listed_floats()}")
    source = found.scheme.names_for(graph, found.tensors)
    shapes = {name: tensor.shape for name, tensor in found.tensors.items()}
    for name, stored in source.items():
        if stored in shapes:
            shapes[stored] = _as_kernel(shapes[stored], graph.parameters[name].shape)
    if message := misfit(graph, found.scheme, source, shapes):
        raise WeightsError(message)
    return {
        name: _float32(stored, found.tensors[stored]).reshape(graph.parameters[name].shape)
        for name, stored in source.items()
    }


def _float32(name: str, tensor: StoredTensor) -> NDArray[np.float32]:
    try:
        return tensor.float32()
    except NotTorchError as error:
        raise WeightsError(f"{name}: damaged or cut short: {error}") from None


def _listed_floats() -> str:
    return f"{', '.join(FLOATS[:-1])} or {FLOATS[-1]}"


def _as_kernel(found: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """A linear layer's matrix is the kernel of a 1x1 convolution, where that is what the graph has."""
    return wanted if wanted == (*found, 1, 1) else found


def _check_values(graph: Graph, weights: _Arrays) -> None:
    """Training that went astray leaves NaN behind, damaged files leave anything."""
    for name, array in weights.items():
        if not np.isfinite(array).all():
            count = int(array.size - np.isfinite(array).sum())
            raise WeightsError(f"{name} holds {count} values that are NaN or beyond float32: expected numbers")
        if graph.parameters[name].role == "norm_var" and array.min() < 0:
            raise WeightsError(f"{name} holds {array.min():g}: expected variances of 0 or more")
