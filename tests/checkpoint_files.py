"""Tensors in the names of other projects, and what loading them gives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from effgen.errors import WeightsError
from effgen.graph import Graph
from effgen.network.checkpoints import AS_MEANT, load_checkpoint
from effgen.network.weight_sets import WeightsChoice


def zipped(*names: str) -> bytes:
    """A zip archive of such members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "hello")
    return buffer.getvalue()


def tarred() -> bytes:
    """A tar archive of an empty file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


#: What people get instead of a model or a checkpoint, and how a message about it begins.
FOREIGN = [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer, not the file itself: "),
    (b"", "an empty file: "),
    (b"\n<!DOCTYPE html><title>404</title>", "an HTML page: download the file itself"),
    (b"<html><body>Sign in</body></html>", "an HTML page: "),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an error page of a server (XML): "),
    (b'{"error": "not found"}', "JSON text: "),
    (zipped("readme.txt"), "a zip archive of readme.txt: unpack it"),
    (zipped("a", "b", "c", "d"), "a zip archive of a, b, c and 1 more: "),
    (zipped("arr_0.npy"), "NumPy's archive of arrays (.npz): "),
    (zipped("config.json", "model.weights.h5"), "a Keras archive: "),
    (gzip.compress(b"hello"), "a gzip archive: gunzip it"),
    (bz2.compress(b"hello"), "a bzip2 archive: "),
    (lzma.compress(b"hello"), "an xz archive: "),
    (tarred(), "a tar archive: "),
    (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file, as Keras writes: "),
    (bytes((28, 0, 0, 0)) + b"TFL3" + bytes(99), "a TensorFlow Lite model: "),
]


TORCHVISION_BLOCKS = {
    # First block: no expansion. Last: no squeeze-excite.
    "stages.0.0.depthwise": "features.1.0.block.0",
    "stages.0.0.se": "features.1.0.block.1",
    "stages.0.0.project": "features.1.0.block.2",
    "stages.1.1.expand": "features.2.1.block.0",
    "stages.1.1.depthwise": "features.2.1.block.1",
    "stages.1.1.se": "features.2.1.block.2",
    "stages.1.1.project": "features.2.1.block.3",
    "stages.2.0.expand": "features.3.0.block.0",
    "stages.2.0.depthwise": "features.3.0.block.1",
    "stages.2.0.project": "features.3.0.block.2",
    "head": "features.4",
}


def in_torchvision_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        layer, leaf = name.rsplit(".", 1)
        place, _, kind = layer.rpartition(".")
        suffix = {"conv": "0", "norm": "1", "reduce": "fc1", "expand": "fc2"}.get(kind, "1")
        first, _, rest = place.partition(".")
        if first in ("stem", ""):
            place = "features.0" if first else "classifier"
        elif first == "head":
            place = "features.4"
        elif place in TORCHVISION_BLOCKS:
            place = TORCHVISION_BLOCKS[place]
        else:
            stage, block, part = rest.split(".")
            assert (stage, block) == ("1", "0")
            place = TORCHVISION_BLOCKS[f"stages.1.1.{part}"].replace("2.1", "2.0", 1)
        renamed[f"{place}.{suffix}.{leaf}"] = tensor
    return renamed


def assert_loads(path: Path, graph: Graph, tensors: dict[str, torch.Tensor], naming: str = "effgen") -> None:
    checkpoint = load_checkpoint(path, graph)
    assert checkpoint.naming == naming
    assert list(checkpoint.weights) == list(graph.parameters)
    for name, array in checkpoint.weights.items():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous and array.flags.writeable
        np.testing.assert_array_equal(array, tensors[name].float().numpy(), err_msg=name)


def message_of(path: Path, graph: Graph, choice: WeightsChoice = AS_MEANT) -> str:
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(path, graph, choice)
    message = str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in message and "\x1b" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")
