"""What the real models of torchvision and timm compute, effgen's graph computes from their checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import noise, relative_error
from safetensors.torch import save_file
from zoo import external_model, output_of

from effgen.checkpoints import load_checkpoint
from effgen.graph import Graph
from effgen.lower import lower
from effgen.network import NetworkRequest, build_network
from effgen.passes.fold_batchnorm import fold_batchnorm
from effgen.reference import run_reference
from effgen.scaling import Overrides
from effgen.spec import parse_spec

#: EfficientNet-Lite0 (no squeeze-excite, relu6, its own stem and head at every width) and MNASNet-A1 (squeeze-excite
#: in some stages, relu, no skip in the first) as timm builds them: checkpoints of users' own baselines.
LITE = """
name = "lite"
activation = "relu6"
padding = "same"
[norm]
eps = 1e-3
[stem]
channels = 32
[head]
channels = 1280
"""
LITE_STAGES = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)]
LITE_STAGES += [(6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]
MNASNET = """
name = "mnasnet_a1"
activation = "relu"
[stem]
channels = 32
[head]
channels = 1280
"""
MNASNET_STAGES = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (3, 5, 2, 40, 3), (6, 3, 2, 80, 4)]
MNASNET_STAGES += [(6, 3, 1, 112, 2), (6, 5, 2, 160, 3), (6, 3, 1, 320, 1)]


def graph_of(
    head: str, stages: Sequence[tuple[int, ...]], resolution: int, squeeze_excite: tuple[int, ...] = ()
) -> Graph:
    keys = ("expand_ratio", "kernel", "stride", "channels", "repeats")
    text = head + f"[input]\nresolution = {resolution}\n"
    for index, stage in enumerate(stages):
        text += '[[stages]]\nblock = "mbconv"\n'
        text += "".join(f"{key} = {value}\n" for key, value in zip(keys, stage, strict=True))
        text += "squeeze_excite = { ratio = 0.25 }\n" if index in squeeze_excite else ""
    return lower(parse_spec(text, "test"))


def efficientnet(phi: str, resolution: int, norm_eps: float, padding: Any = None, classes: int | None = None) -> Graph:
    overrides = Overrides(resolution=resolution, norm_eps=norm_eps, padding=padding, classes=classes)
    return build_network(NetworkRequest(phi=phi, overrides=overrides)).graph


def saved(model: torch.nn.Module, path: Path) -> Path:
    """The state dict in `path`, in the format that its suffix says."""
    if path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    return path


def assert_parity(model: torch.nn.Module, graph: Graph, path: Path, naming: str) -> None:
    """The loaded weights give what the model gives, unfolded and folded, to a relative L2 error of 1e-5."""
    checkpoint = load_checkpoint(saved(model, path), graph)
    assert checkpoint.naming == naming
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    image = noise(graph.input.shape, seed=1)
    expected = output_of(model, image)
    # A model that heeds its image but little would agree with a graph that is wrong.
    assert relative_error(output_of(model, -image), expected) > 0.1
    assert relative_error(run_reference(graph, checkpoint.weights, image), expected) <= 1e-5
    folded, weights = fold_batchnorm(graph, checkpoint.weights)
    assert relative_error(run_reference(folded, weights, image), expected) <= 1e-5


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("resolution", [64, 97])
def test_torchvision_b0(tmp_path: Path, suffix: str, resolution: int) -> None:
    model = external_model("torchvision", "efficientnet_b0")
    assert_parity(model, efficientnet("0", resolution, 1e-5), tmp_path / f"b0{suffix}", "torchvision")


@pytest.mark.parametrize(("suffix", "resolution"), [(".pt", 65), (".safetensors", 96)])
def test_timm_b0(tmp_path: Path, suffix: str, resolution: int) -> None:
    model = external_model("timm", "efficientnet_b0", num_classes=10)
    graph = efficientnet("0", resolution, 1e-5, classes=10)
    assert_parity(model, graph, tmp_path / f"b0{suffix}", "timm")


@pytest.mark.parametrize("resolution", [64, 70, 97])
def test_timm_b0_of_tensorflow(tmp_path: Path, resolution: int) -> None:
    """Padding of the strided layers is uneven in all of them (64), in some (70), or in none (97)."""
    model = external_model("timm", "tf_efficientnet_b0")
    graph = efficientnet("0", resolution, 1e-3, padding="same")
    assert_parity(model, graph, tmp_path / "tf_b0.pth", "timm")


def test_a_scaled_network_without_squeeze_excite(tmp_path: Path) -> None:
    model = external_model("timm", "tf_efficientnet_lite0")
    assert_parity(model, graph_of(LITE, LITE_STAGES, 65), tmp_path / "lite0.safetensors", "timm")


def test_squeeze_excite_in_some_stages(tmp_path: Path) -> None:
    model = external_model("timm", "semnasnet_100")
    graph = graph_of(MNASNET, MNASNET_STAGES, 64, squeeze_excite=(2, 4, 5))
    assert_parity(model, graph, tmp_path / "mnasnet.pth", "timm")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name", "phi", "resolution", "norm_eps", "padding"),
    [
        ("torchvision", "efficientnet_b3", "3", 100, 1e-5, None),
        ("torchvision", "efficientnet_b5", "5", 129, 1e-3, None),
        ("torchvision", "efficientnet_b7", "7", 128, 1e-3, None),
        ("timm", "efficientnet_b4", "4", 97, 1e-5, None),
        ("timm", "tf_efficientnet_b6", "6", 129, 1e-3, "same"),
        ("timm", "tf_efficientnet_b8", "b8", 96, 1e-3, "same"),
    ],
)
def test_larger_models(
    tmp_path: Path, package: str, name: str, phi: str, resolution: int, norm_eps: float, padding: Any
) -> None:
    graph = efficientnet(phi, resolution, norm_eps, padding)
    assert_parity(external_model(package, name), graph, tmp_path / "model.safetensors", package)
