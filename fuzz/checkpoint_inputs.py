"""Checkpoints that are a little or very wrong: PyTorch's two layouts and safetensors'."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mutations import HOSTILE, Raw, changed_bytes, changed_tree, json_text
from safetensors.torch import save

from effgen.graph import Graph


def tensors_of(graph: Graph) -> dict[str, torch.Tensor]:
    """Numbers for all parameters of a network, by effgen's own names."""
    return {name: torch.full(parameter.shape, 0.5) for name, parameter in graph.parameters.items()}


def torch_input(graph: Graph, rng: random.Random) -> bytes:
    """A zip archive or a sequence of pickles; the content is wrong, or its bytes."""
    content = _content(tensors_of(graph), rng)
    legacy = rng.random() < 0.3
    buffer = io.BytesIO()
    try:
        torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    except Exception:  # what PyTorch itself does not write
        torch.save(tensors_of(graph), buffer, _use_new_zipfile_serialization=not legacy)
    data = buffer.getvalue()
    if rng.random() < 0.4:
        data = changed_bytes(data, rng) if legacy or rng.random() < 0.3 else _changed_members(data, rng)
    return data


def _content(tensors: Mapping[str, torch.Tensor], rng: random.Random) -> Any:
    """The tensors, one or two of them replaced, in whatever a training script puts around them."""
    found: dict[Any, Any] = dict(tensors)
    for _ in range(rng.choice((0, 1, 1, 2))):
        name = rng.choice(list(found))
        kind = rng.randrange(5)
        if kind == 0:
            del found[name]
        elif kind == 1:
            found[rng.choice((f"module.{name}", name + "x", 5, None, "\x1b[31m", "conv_stem.weight", "epoch"))] = (
                found.pop(name)
            )
        else:
            found[name] = rng.choice(_VALUES)(tensors.get(name, torch.ones(2)))
    wraps: list[Callable[[], Any]] = [
        lambda: found,
        lambda: found,
        lambda: OrderedDict(found),
        lambda: {"state_dict": found, "epoch": 3, "args": Namespace(lr=0.1), "x": rng.choice(_PLAIN)},
        lambda: {"model": found, "model_ema": {f"module.{key}": value for key, value in found.items()}},
        lambda: [found],
        lambda: rng.choice(_PLAIN),
        lambda: {f"p{i}.stem.conv.weight": torch.ones(1) for i in range(rng.choice((2, 60)))},
    ]
    return rng.choice(wraps)()


_PLAIN = [value for value in HOSTILE if not isinstance(value, Raw)]


def _quantised(tensor: torch.Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are to go
        return torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)


_VALUES: list[Callable[[torch.Tensor], Any]] = [
    lambda tensor: torch.zeros(1).expand(2**30, 2**10),
    lambda tensor: torch.zeros(1).expand(tensor.shape),
    lambda tensor: torch.empty(tensor.shape, device="meta"),
    lambda tensor: tensor.to_sparse(),
    _quantised,
    lambda tensor: tensor.to(torch.complex64),
    lambda tensor: tensor.to(torch.bfloat16),
    lambda tensor: tensor.to(torch.float8_e4m3fn),
    lambda tensor: tensor.double() * 1e300,
    lambda tensor: tensor.bool(),
    lambda tensor: tensor * float("nan"),
    lambda tensor: tensor.reshape(-1),
    lambda tensor: tensor[:0],
    lambda tensor: torch.tensor(3.0),
    lambda tensor: tensor.numpy(),
    lambda tensor: torch.nn.Parameter(tensor.float()),
    lambda tensor: [tensor],
    lambda tensor: {"a": tensor},
    lambda tensor: {1, 2, 3},
    lambda tensor: torch.nn.ReLU(),
    *(lambda tensor, value=value: value for value in _PLAIN),
]  # fmt: skip


def _changed_members(data: bytes, rng: random.Random) -> bytes:
    """The archive with one member's bytes changed, and its checksum right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([name for name in members if name.endswith("data.pkl")] * 5 + list(members))
    members[name] = changed_bytes(members[name], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return buffer.getvalue()


def safetensors_input(graph: Graph, rng: random.Random) -> bytes:
    """The header is wrong, or bytes are."""
    data = save(tensors_of(graph), {"format": "pt"})
    if rng.random() < 0.3:
        return changed_bytes(data, rng)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header = _with_other_tensors(header, rng) if rng.random() < 0.5 else changed_tree(header, rng)
    text = json_text(header).encode("utf-8", "surrogatepass")
    stated = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, len(text) - 1))
    return struct.pack("<Q", stated) + text + data[8 + length :]


def _with_other_tensors(header: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Types, shapes and names change, and the bytes that belong to each stay where they are."""
    header["__metadata__"] = {
        "format": "pt",
        rng.choice(("architecture", "x", "\x1b[31m")): rng.choice(("b0", "", "x" * 99)),
    }
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice([name for name in header if name != "__metadata__"])
        kind = rng.randrange(4)
        if kind == 0:
            header[name]["dtype"] = rng.choice(("I32", "U32", "F32", "F8_E8M0", "C64", "BOOL", "X"))
        elif kind == 1:
            header[name]["shape"] = header[name]["shape"][::-1]
        elif kind == 2:
            header[name]["shape"] = [*header[name]["shape"], *([1] * rng.choice((1, 2, 40)))]
        else:
            header[rng.choice((f"module.{name}", "epoch", "\x1b[31m", "conv_stem.weight"))] = header.pop(name)
    return header
