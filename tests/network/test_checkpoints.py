"""Checkpoints of every kind and naming give the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import assert_loads, in_torchvision_names, message_of
from networks import TINY, tiny_spec
from safetensors.torch import save_file

from effgen.graph import Graph
from effgen.network import NetworkRequest, build_network
from effgen.network.checkpoints import load_checkpoint
from effgen.network.weights import initial_weights


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".PTH", ".safetensors"])
def test_effgens_own_names(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], suffix: str) -> None:
    path = tmp_path / f"own{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    assert_loads(path, graph, tensors)


def test_blocks_are_renumbered_as_torchvision_does(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "tv.safetensors"
    save_file(in_torchvision_names(tensors), path)
    assert_loads(path, graph, tensors, "torchvision")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_precisions_become_float32(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], dtype: torch.dtype, suffix: str
) -> None:
    path = tmp_path / f"cast{suffix}"
    cast = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    (save_file if suffix == ".safetensors" else torch.save)(cast, path)
    assert_loads(path, graph, cast)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_wrappers_of_training_scripts(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], wrapper: str, prefix: str
) -> None:
    path = tmp_path / "run.pth"
    inner = {prefix + name: tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 7, "optimizer": {"lr": 0.1}, wrapper: inner}, path)
    assert_loads(path, graph, tensors)


def test_counters_of_training_steps_are_left_out(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]
) -> None:
    counters = {"stem.norm.num_batches_tracked": torch.tensor(9)}
    torch.save(tensors | counters, tmp_path / "a.pth")
    save_file(tensors | counters, tmp_path / "a.safetensors")
    assert_loads(tmp_path / "a.pth", graph, tensors)
    assert_loads(tmp_path / "a.safetensors", graph, tensors)
    torch.save(tensors | {"stem.norm.num_batches": torch.tensor(9.0)}, tmp_path / "b.pth")
    assert "1 surplus: stem.norm.num_batches" in message_of(tmp_path / "b.pth", graph)


def test_memory_layouts_and_parameters(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    """What `channels_last` models and lists of Parameters leave in a state dict."""
    odd: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        odd[name] = torch.nn.Parameter(tensor)
    torch.save(odd, tmp_path / "odd.pth")
    assert_loads(tmp_path / "odd.pth", graph, tensors)


def test_another_number_of_classes(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    tensors |= {"classifier.weight": torch.zeros(5, 32), "classifier.bias": torch.zeros(5)}
    save_file(tensors, tmp_path / "a.safetensors")
    assert message_of(tmp_path / "a.safetensors", graph).endswith(
        "2 misshapen: classifier.weight (5, 32), expected (10, 32), classifier.bias (5,), expected (10,); "
        "give --classes 5"
    )


@pytest.mark.parametrize(("phi", "other"), [("0", "1"), ("1", "0"), ("2", "3")])
def test_another_phi(tmp_path: Path, phi: str, other: str) -> None:
    wanted = build_network(NetworkRequest(phi=phi)).graph
    found = build_network(NetworkRequest(phi=other)).graph
    # Of the shapes alone: large tensors of zeros take no time, and no file is larger than it need be.
    arrays = {name: torch.zeros(1).expand(p.shape) for name, p in found.parameters.items()}
    torch.save(arrays, tmp_path / "a.pth")
    assert message_of(tmp_path / "a.pth", wanted).endswith("; probably a checkpoint of another --phi or --spec")


def test_weights_of_effgen_survive_a_round_trip(tmp_path: Path, graph: Graph) -> None:
    weights = initial_weights(graph, seed=4)
    save_file({name: torch.from_numpy(array) for name, array in weights.items()}, tmp_path / "a.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors", graph).weights
    assert all(np.array_equal(loaded[name], weights[name]) for name in weights)


def test_the_tiny_network_has_every_case() -> None:
    """What the renaming tests above rely on."""
    stages = tiny_spec().stages
    assert [stage.expand_ratio > 1 for stage in stages] == [False, True, True]
    assert [stage.squeeze_excite is not None for stage in stages] == [True, True, False]
    assert TINY.count("[[stages]]") == 3
