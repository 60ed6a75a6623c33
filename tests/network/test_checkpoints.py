"""Checkpoints of other projects load completely and right, or not at all with one line that says why."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import TINY, tiny_graph, tiny_spec
from safetensors.torch import save_file

from effgen.errors import WeightsError
from effgen.graph import Graph
from effgen.network import NetworkRequest, build_network
from effgen.network.checkpoints import load_checkpoint
from effgen.network.weights import initial_weights

# Every kind of file that holds the same tensors. The tiny network has blocks without expansion and without
# squeeze-excite, so both renumberings of torchvision's blocks are in here.

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


@pytest.fixture(scope="module")
def graph() -> Graph:
    return tiny_graph()


@pytest.fixture
def tensors(graph: Graph) -> dict[str, torch.Tensor]:
    """effgen's own names -> random tensors."""
    generator = np.random.default_rng(3)
    return {
        name: torch.from_numpy(generator.random(parameter.shape, dtype=np.float32))
        for name, parameter in graph.parameters.items()
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


# Files that do not load.


def message_of(path: Path, graph: Graph) -> str:
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(path, graph)
    message = str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in message and "\x1b" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_files_that_are_not_there(tmp_path: Path, graph: Graph) -> None:
    assert message_of(tmp_path / "none.pth", graph) == "cannot read the checkpoint: No such file or directory"
    (tmp_path / "folder.pth").mkdir()
    assert message_of(tmp_path / "folder.pth", graph) == "cannot read the checkpoint: Is a directory"
    assert message_of(tmp_path / "weights.h5", graph) == (
        "unknown kind of checkpoint '.h5': expected .pt, .pth, .safetensors"
    )


class RunsCode:
    """Unpickling it would create a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ["truncated", "no tail", "empty", "text", "html", "zip", "pickle"])
def test_foreign_and_damaged_files(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], kind: str, suffix: str
) -> None:
    path = tmp_path / f"bad{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    whole = path.read_bytes()
    contents = {
        "truncated": whole[: len(whole) // 2],
        "no tail": whole[:-4],
        "empty": b"",
        "text": b"hello, this is no checkpoint\n" * 9,
        "html": b"<!DOCTYPE html><title>404</title>",
        "pickle": pickle.dumps({"a": 1}),
    }
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    else:
        path.write_bytes(contents[kind])
    expected = "not a safetensors file" if suffix == ".safetensors" else "not a PyTorch checkpoint"
    assert message_of(path, graph).startswith(f"{expected}, or damaged or cut short: ")


def test_python_objects_are_not_loaded(tmp_path: Path, graph: Graph) -> None:
    path, witness = tmp_path / "evil.pth", tmp_path / "witness"
    torch.save({"state_dict": RunsCode(witness)}, path)
    assert message_of(path, graph).startswith("holds a Python object (posix.mkdir), which is not loaded")
    assert not witness.exists()
    torch.save(torch.nn.Linear(2, 2), path)
    assert message_of(path, graph) == (
        "holds a Python object (torch.nn.modules.linear.Linear), which is not loaded because that can run code: "
        "expected tensors only; save model.state_dict() instead"
    )


def test_a_torchscript_archive(tmp_path: Path, graph: Graph) -> None:
    path = tmp_path / "script.pt"
    torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)).save(path)
    assert message_of(path, graph).startswith("not a PyTorch checkpoint")


def test_without_torch(tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert message_of(path, graph) == (
        "reading it needs PyTorch: pip install 'effgen[torch]', or save the weights as .safetensors"
    )


def test_contents_that_are_no_state_dict(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.pth"

    def message(content: Any) -> str:
        torch.save(content, path)
        return message_of(path, graph)

    assert message([1, 2]) == "holds list: expected a dictionary of tensors"
    assert message({"stem.conv.weight": 3}).startswith("'stem.conv.weight' holds int: expected names with tensors")
    assert message({5: torch.zeros(1)}).startswith("5 holds Tensor")
    assert message({"model": tensors, "state_dict": tensors}).startswith(
        "holds several sets of weights (state_dict, model): expected one"
    )
    assert message(tensors | {"stem.conv.weight": torch.zeros(3, dtype=torch.int8)}) == (
        "stem.conv.weight is torch.int8: expected dense floating-point tensors"
    )
    assert message({}).startswith("holds nothing: expected the names of one of torchvision (features.0.0.weight, ")
    assert message({"b": torch.zeros(1), "a": torch.zeros(1)}).startswith("holds a, b: expected")
    assert message(tensors | {"conv_stem.weight": torch.zeros(1)}).startswith("holds names of timm and effgen: ")


def test_integers_in_safetensors(tmp_path: Path, graph: Graph) -> None:
    save_file({"stem.conv.weight": torch.zeros(3, dtype=torch.int64)}, tmp_path / "a.safetensors")
    assert message_of(tmp_path / "a.safetensors", graph) == ("stem.conv.weight is I64: expected F32, F16, BF16 or F64")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_values_that_are_no_numbers(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor], value: float, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    tensors["head.conv.weight"] = tensors["head.conv.weight"].double()
    tensors["head.conv.weight"].view(-1)[:2] = value
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    assert message_of(path, graph) == (
        "head.conv.weight holds 2 values that are NaN or beyond float32: expected numbers"
    )


def test_negative_variances(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    tensors["stem.norm.running_var"][3] = -0.5
    save_file(tensors, tmp_path / "a.safetensors")
    assert message_of(tmp_path / "a.safetensors", graph) == (
        "stem.norm.running_var holds -0.5: expected variances of 0 or more"
    )


def test_all_that_does_not_fit_is_one_line(tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    for name in ("stem.norm.weight", "stem.norm.bias", "stem.norm.running_mean", "stem.norm.running_var"):
        del tensors[name]
    tensors["stem.bn.weight"] = torch.zeros(8)
    tensors["head.norm.bias"] = torch.zeros(3)
    save_file(tensors, path)
    assert message_of(path, graph) == (
        "does not fit tiny (effgen names): "
        "4 missing: stem.norm.weight, stem.norm.bias, stem.norm.running_mean and 1 more; "
        "1 surplus: stem.bn.weight; "
        "1 misshapen: head.norm.bias (3,), expected (32,)"
    )


def test_misshapen_tensors_are_named_as_in_the_file(
    tmp_path: Path, graph: Graph, tensors: dict[str, torch.Tensor]
) -> None:
    tensors["head.norm.bias"] = torch.zeros(3)
    save_file(in_torchvision_names(tensors), tmp_path / "a.safetensors")
    assert message_of(tmp_path / "a.safetensors", graph).endswith("1 misshapen: features.4.1.bias (3,), expected (32,)")


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
