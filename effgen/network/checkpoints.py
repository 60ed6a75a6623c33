"""Checkpoint files of torchvision, timm and effgen -> the parameters of an unfolded graph.

A checkpoint holds neither batch norm's epsilon nor the padding: those come with the request (`--norm-eps`,
`--padding`). Nothing is guessed: every parameter of the graph must be in the file, with its shape, and every tensor
of the file must have a place in the graph. Only `num_batches_tracked`, a counter of training steps, is left out.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from effgen.errors import WeightsError
from effgen.graph import Graph, Weights
from effgen.network.checkpoint_names import Naming, Scheme, known_stems, schemes_of

_Arrays: TypeAlias = dict[str, NDArray[np.float32]]

#: Keys under which training scripts put the weights; "ema" is the moving average of the others.
_WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_ema")

#: What DistributedDataParallel and torch.compile put before every name.
_PREFIXES = ("module.", "_orig_mod.")

#: How many names of each kind a message lists.
_LISTED = 3


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a graph as read from a file: float32 arrays by the graph's names, and where they come from."""

    weights: Weights
    naming: Naming
    sha256: str


def load_checkpoint(path: Path, graph: Graph) -> Checkpoint:
    """Read `.pth` / `.pt` (tensors only, no code is run) or `.safetensors` into the parameters of unfolded `graph`.

    Half and double precision become float32. Raises WeightsError with one line where the file cannot be read, holds
    anything but finite tensors, has names of no known kind, or does not fit the graph.
    """
    data = _file_bytes(path)
    tensors = _read(path, data)
    scheme = _scheme_of(path, tensors)
    weights = _fitted(path, graph, scheme, tensors)
    _check_values(path, graph, weights)
    return Checkpoint(weights, scheme.naming, hashlib.sha256(data).hexdigest())


def _file_bytes(path: Path) -> bytes:
    """The whole file, read once: what is hashed is what is loaded."""
    if path.suffix.lower() not in _READERS:
        raise WeightsError(
            f"{path}: unknown kind of checkpoint {path.suffix!r}: expected {', '.join(sorted(_READERS))}"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from None


def _read(path: Path, data: bytes) -> _Arrays:
    tensors = _READERS[path.suffix.lower()](path, data)
    for prefix in _PREFIXES * 2:  # either may be inside the other
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    return tensors


def _read_torch(path: Path, data: bytes) -> _Arrays:
    try:
        import torch
    except ImportError:
        raise WeightsError(
            f"{path}: reading it needs PyTorch: pip install 'effgen[torch]', or save the weights as .safetensors"
        ) from None
    try:
        with warnings.catch_warnings():  # what torch warns of here (TorchScript, odd pickles) ends as an error below
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # Foreign bytes make torch.load raise whatever its parser trips over: RuntimeError, KeyError, UnicodeError, ...
    except Exception as error:
        raise WeightsError(f"{path}: {_why_not_loaded(error)}") from None
    arrays: _Arrays = {}
    for name, tensor in _unwrapped(path, content).items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            found = f"{name!r} holds {type(tensor).__name__}"
            raise WeightsError(f"{path}: {found}: expected names with tensors, as in model.state_dict()")
        if _is_counter(name):
            continue
        if not tensor.is_floating_point() or tensor.layout != torch.strided:
            raise WeightsError(f"{path}: {name} is {tensor.dtype}: expected dense floating-point tensors")
        arrays[name] = tensor.detach().to(torch.float32).contiguous().numpy()
    return arrays


def _why_not_loaded(error: Exception) -> str:
    unsafe = re.search(r"GLOBAL ([\w.]+)", str(error))
    if unsafe:
        return (
            f"holds a Python object ({unsafe[1]}), which is not loaded because that can run code: "
            "expected tensors only; save model.state_dict() instead"
        )
    return "not a PyTorch checkpoint, or damaged or cut short: expected what torch.save(model.state_dict()) writes"


def _unwrapped(path: Path, content: Any) -> Mapping[Any, Any]:
    """The one dictionary of tensors in what a training script saved."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds {type(content).__name__}: expected a dictionary of tensors")
    found = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(found) > 1:
        raise WeightsError(
            f"{path}: holds several sets of weights ({', '.join(found)}): expected one; save the wanted one alone"
        )
    return content[found[0]] if found else content


def _read_safetensors(path: Path, data: bytes) -> _Arrays:
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file, or damaged or cut short: {error}") from None
    return {name: _float32_from_bytes(path, name, entry) for name, entry in entries if not _is_counter(name)}


def _float32_from_bytes(path: Path, name: str, entry: Mapping[str, Any]) -> NDArray[np.float32]:
    """A tensor of a safetensors file (little-endian bytes); numpy lacks bfloat16, the upper half of a float32."""
    dtype, raw = entry["dtype"], entry["data"]
    if dtype == "BF16":
        flat = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype in ("F16", "F32", "F64"):
        with np.errstate(over="ignore"):  # beyond float32 is infinity, which _check_values reports
            flat = np.frombuffer(raw, f"<f{int(dtype[1:]) // 8}").astype(np.float32)
    else:
        raise WeightsError(f"{path}: {name} is {dtype}: expected F32, F16, BF16 or F64")
    return flat.reshape(entry["shape"])


_READERS: Mapping[str, Callable[[Path, bytes], _Arrays]] = {
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".safetensors": _read_safetensors,
}


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == "num_batches_tracked"


def _scheme_of(path: Path, tensors: _Arrays) -> Scheme:
    found = schemes_of(tensors)
    if len(found) != 1:
        first = ", ".join(sorted(tensors)[:_LISTED]) or "nothing"
        namings = " and ".join(scheme.naming for scheme in found)
        what = f"names of {namings}" if found else f"{first}{', ...' if len(tensors) > _LISTED else ''}"
        raise WeightsError(f"{path}: holds {what}: expected the names of one of {known_stems()}")
    return found[0]


def _fitted(path: Path, graph: Graph, scheme: Scheme, tensors: _Arrays) -> _Arrays:
    """The arrays under the graph's names, or one WeightsError about all that does not fit."""
    source = scheme.names_for(graph)
    tensors = tensors | {
        found: _as_kernel(tensors[found], graph.parameters[name].shape)
        for name, found in source.items()
        if found in tensors
    }
    missing = [name for name in source.values() if name not in tensors]
    surplus = sorted(tensors.keys() - set(source.values()))
    misshapen = [
        name
        for name, found in source.items()
        if found in tensors and tensors[found].shape != graph.parameters[name].shape
    ]
    if missing or surplus or misshapen:
        shapes = [
            f"{source[name]} {tensors[source[name]].shape}, expected {graph.parameters[name].shape}"
            for name in misshapen
        ]
        groups = {"missing": missing, "surplus": surplus, "misshapen": shapes}
        listed = "; ".join(_listing(kind, names) for kind, names in groups.items() if names)
        hint = _hint(graph, source, tensors, missing + surplus, misshapen)
        raise WeightsError(f"{path}: does not fit {graph.name} ({scheme.naming} names): {listed}{hint}")
    return {name: tensors[found] for name, found in source.items()}


def _as_kernel(array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A linear layer's matrix as the kernel of a 1x1 convolution, where that is what the graph has."""
    return array.reshape(shape) if shape == (*array.shape, 1, 1) else array


def _listing(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{len(names)} {kind}: {', '.join(names[:_LISTED])}{more}"


def _hint(graph: Graph, source: Mapping[str, str], tensors: _Arrays, unmatched: list[str], misshapen: list[str]) -> str:
    """What to do about it, where that can be told."""
    kernel = "classifier.weight"
    others = [name for name in misshapen if not name.startswith("classifier.")]
    if kernel in misshapen and not unmatched and not others:
        found = tensors[source[kernel]].shape
        if len(found) == 2 and found[1] == graph.parameters[kernel].shape[1]:
            return f"; give --classes {found[0]}"
    # Some tensors of a damaged file are off; another member of the family has other blocks or other widths.
    if len(unmatched) + len(others) > len(source) / 4:
        return "; probably a checkpoint of another --phi or --spec"
    return ""


def _check_values(path: Path, graph: Graph, weights: _Arrays) -> None:
    """Training that went astray leaves NaN behind, damaged files leave anything."""
    for name, array in weights.items():
        if not np.isfinite(array).all():
            count = int(array.size - np.isfinite(array).sum())
            raise WeightsError(f"{path}: {name} holds {count} values that are NaN or beyond float32: expected numbers")
        if graph.parameters[name].role == "norm_var" and array.min() < 0:
            raise WeightsError(f"{path}: {name} holds {array.min():g}: expected variances of 0 or more")
