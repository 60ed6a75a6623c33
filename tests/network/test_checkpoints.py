"""Checkpoints of every kind and naming give the same weights."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import assert_loads, in_torchvision_names, message_of
from networks import TINY, tiny_spec
from safetensors.torch import save_file

from effgen.graph import Graph
from effgen.network import NetworkRequest, build_network
from effgen.network.checkpoints import load_checkpoint
from effgen.network.weight_sets import WeightsChoice, renames_from_texts
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


def around(wrapper: str, state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What a training script saves: options as objects, an optimizer's tensors, a counter."""
    options = Namespace(lr=0.1, folder=Path("runs"), rates=np.arange(3.0))
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    return {"epoch": 7, "args": options, "optimizer": optimizer, "best": np.float64(0.7), wrapper: state}


PREFIXES = ["", "module.", "_orig_mod.module.", "module._orig_mod.", "model.", "net.backbone."]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapper", ["state_dict", "model", "state_dict_ema", "network_weights"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrappers_of_training_scripts(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], wrapper: str, prefix: str, legacy: bool
) -> None:
    path = tmp_path / "model_best.pth.tar"
    inner = {prefix + name: tensor for name, tensor in tensors.items()}
    torch.save(around(wrapper, inner), path, _use_new_zipfile_serialization=not legacy)
    assert_loads(path, graph, tensors)


def shifted(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor + 1 for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("chosen", "other"),
    [
        ("state_dict_ema", "state_dict"),
        ("model_ema", "model"),
        ("ema_state_dict", "model_state_dict"),
        ("model", "teacher"),
        ("state_dict", "model"),
        ("state_dict", "current_model_state"),
    ],
)
def test_of_several_sets_the_one_that_is_meant(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], chosen: str, other: str
) -> None:
    path = tmp_path / "a.pth"
    torch.save({other: shifted(tensors), chosen: tensors}, path)
    assert_loads(path, graph, tensors)
    found = load_checkpoint(path, graph)
    assert (found.key, found.others) == (chosen, (other,))
    assert found.facts["key"] == chosen and found.facts["others"] == [other]
    asked = load_checkpoint(path, graph, WeightsChoice(other))
    assert (asked.key, asked.others) == (other, (chosen,))
    np.testing.assert_array_equal(asked.weights["stem.conv.weight"], tensors["stem.conv.weight"] + 1)


def test_sets_behind_prefixes(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    """Lightning's modules hold several networks, losses and metrics in one state dict."""
    state = {f"student.{name}": tensor for name, tensor in tensors.items()}
    state |= {f"teacher.{name}": tensor for name, tensor in shifted(tensors).items()}
    state |= {"loss.weight": torch.ones(3), "accuracy.n_averaged": torch.tensor(3)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6", "loops": {}}, tmp_path / "last.ckpt")
    assert_loads(tmp_path / "last.ckpt", graph, tensors)
    found = load_checkpoint(tmp_path / "last.ckpt", graph)
    assert (found.key, found.others) == ("state_dict.student", ("state_dict.teacher",))
    assert found.left_out == ("loss.weight",)
    assert load_checkpoint(tmp_path / "last.ckpt", graph, WeightsChoice("state_dict.teacher")).key.endswith("teacher")


def test_a_module_that_was_saved_whole(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    module = torch.nn.Module()
    for name, tensor in tensors.items():
        *folders, leaf = name.split(".")
        place = module
        for folder in folders:
            if not hasattr(place, folder):
                place.add_module(folder, torch.nn.Module())
            place = getattr(place, folder)
        place.register_parameter(leaf, torch.nn.Parameter(tensor))
    for content in (module, {"model": module, "epoch": 3}):
        torch.save(content, tmp_path / "whole.pt")
        assert_loads(tmp_path / "whole.pt", graph, tensors)


def test_renames(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    odd = {f"my.{name.replace('.norm.', '.bn.')}_": tensor for name, tensor in tensors.items()}
    torch.save(odd | {"aux.weight": torch.ones(2)}, tmp_path / "a.pth")
    renames = renames_from_texts([r"^my\.(.*)_$=\1", r"\.bn\.=.norm.", "^aux.*="])
    found = load_checkpoint(tmp_path / "a.pth", graph, WeightsChoice(renames=renames))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found.weights[name], tensor.numpy())


def test_files_are_told_by_their_bytes(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    """Hugging Face's .bin is PyTorch's, Lightning's .ckpt too; a download may have any name."""
    for name in ("pytorch_model.bin", "last.ckpt", "weights", "a.safetensors"):
        torch.save(tensors, tmp_path / name)
        assert_loads(tmp_path / name, graph, tensors)
    save_file(tensors, tmp_path / "a.pth")
    assert_loads(tmp_path / "a.pth", graph, tensors)


def test_neither_torch_nor_its_checksums_are_needed(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(tensors, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    expected = {name: tensor.numpy() for name, tensor in tensors.items()}
    monkeypatch.setitem(sys.modules, "torch", None)
    loaded = load_checkpoint(tmp_path / "a.pth", graph).weights
    assert all(np.array_equal(loaded[name], array) for name, array in expected.items())


def test_counters_of_training_steps_are_left_out(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]
) -> None:
    counters = {"stem.norm.num_batches_tracked": torch.tensor(9), "total_ops": torch.zeros(1, dtype=torch.float64)}
    counters |= {"n_averaged": torch.tensor(3), "head.total_params": torch.zeros(1, dtype=torch.float64)}
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


@pytest.mark.parametrize("classes", [10, 5])
def test_a_classifier_of_another_name(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], classes: int
) -> None:
    """As fine-tuning leaves it: `classifier = Sequential(Dropout(), Linear(...))`."""
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
    state |= {"classifier.1.weight": torch.zeros(classes, 32), "classifier.1.bias": torch.zeros(classes)}
    save_file(state, tmp_path / "a.safetensors")
    message = message_of(tmp_path / "a.safetensors", graph)
    assert message.endswith(
        r"; give --rename '^classifier\.1\.=classifier.'" + ("" if classes == 10 else " and --classes 5")
    )
    if classes == 10:
        renames = renames_from_texts([message.rpartition("--rename ")[2].strip("'")])
        assert load_checkpoint(tmp_path / "a.safetensors", graph, WeightsChoice(renames=renames)).weights


@pytest.mark.parametrize(("phi", "other"), [("0", "1"), ("1", "0"), ("2", "3")])
def test_another_phi(tmp_path: Path, phi: str, other: str) -> None:
    wanted = build_network(NetworkRequest(phi=phi)).graph
    found = build_network(NetworkRequest(phi=other)).graph
    # Of the shapes alone: large tensors of zeros take no time, and no file is larger than it need be.
    arrays = {name: torch.zeros(1).expand(p.shape) for name, p in found.parameters.items()}
    torch.save(arrays, tmp_path / "a.pth")
    assert message_of(tmp_path / "a.pth", wanted).endswith(f"; it fits --spec efficientnet --phi b{other}")


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
