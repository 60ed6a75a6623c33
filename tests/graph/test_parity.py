"""What the real models of torchvision and timm compute, effgen's graph computes from their checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import noise, relative_error
from safetensors.torch import save_file
from zoo import external_model, output_of

from effgen.graph import Graph
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.graph.reference import run_reference
from effgen.network import NetworkRequest, build_network
from effgen.network.checkpoints import load_checkpoint
from effgen.network.scaling import Overrides


def efficientnet(phi: str, resolution: int, norm_eps: float, padding: Any = None, classes: int | None = None) -> Graph:
    overrides = Overrides(resolution=resolution, norm_eps=norm_eps, padding=padding, classes=classes)
    return graph_of("efficientnet", phi, overrides)


def graph_of(spec: str, phi: str = "0", overrides: Overrides | None = None) -> Graph:
    return build_network(NetworkRequest(spec, phi, overrides=overrides or Overrides())).graph


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
    others = (output_of(model, other) for other in (-image, np.ones_like(image)))
    assert max(relative_error(other, expected) for other in others) > 0.1
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


#: package, model, spec, phi, and what a checkpoint cannot say
FAMILIES: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("timm", "mobilenetv1_100", "mobilenet_v1", "0", {}),
    ("timm", "mobilenetv2_100", "mobilenet_v2", "0", {}),
    ("torchvision", "mobilenet_v2", "mobilenet_v2", "0", {}),
    ("timm", "mobilenetv3_large_100", "mobilenet_v3_large", "0", {}),
    ("torchvision", "mobilenet_v3_large", "mobilenet_v3_large", "0", {"norm_eps": 1e-3}),
    ("timm", "mnasnet_100", "mnasnet_b1", "0", {}),
    ("torchvision", "mnasnet1_0", "mnasnet_b1", "0", {}),
    ("timm", "semnasnet_100", "mnasnet_a1", "0", {}),
    ("timm", "tf_efficientnet_lite0", "efficientnet_lite", "0", {}),
    ("timm", "efficientnet_lite0", "efficientnet_lite", "0", {"norm_eps": 1e-5, "padding": "symmetric"}),
    ("timm", "tf_efficientnetv2_b0", "efficientnet_v2_b", "0", {}),
    ("timm", "resnet50", "resnet50", "0", {}),
    ("torchvision", "resnet50", "resnet50", "0", {}),
    ("timm", "resnet18", "resnet18", "0", {}),
    ("timm", "mobilenetv3_small_100", "mobilenet_v3_small", "0", {}),
    ("torchvision", "mobilenet_v3_small", "mobilenet_v3_small", "0", {"norm_eps": 1e-3}),
    ("timm", "tf_mobilenetv3_small_minimal_100", "mobilenet_v3_small_minimal", "0", {}),
    ("timm", "efficientnet_es", "efficientnet_edgetpu", "0", {}),
    ("timm", "tinynet_d", "tinynet", "d", {}),
    ("timm", "regnetx_002", "regnet_x_002", "0", {}),
    ("timm", "regnety_002", "regnet_y_002", "0", {}),
    ("timm", "fbnetc_100", "fbnet_c", "0", {}),
    ("timm", "ghostnet_100", "ghostnet", "0", {}),
    ("timm", "mixnet_s", "mixnet_s", "0", {}),
    ("timm", "mobilenetv4_conv_small", "mobilenet_v4_conv_small", "0", {}),
    ("timm", "lcnet_100", "lcnet", "0", {}),
]
LARGE_FAMILIES: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("timm", "tf_efficientnet_lite2", "efficientnet_lite", "2", {}),
    ("timm", "tf_efficientnet_lite4", "efficientnet_lite", "4", {}),
    ("timm", "tf_efficientnetv2_s", "efficientnet_v2_s", "0", {}),
    ("torchvision", "efficientnet_v2_s", "efficientnet_v2_s", "0", {"padding": "symmetric"}),
    ("timm", "tf_efficientnetv2_b2", "efficientnet_v2_b", "2", {}),
    ("timm", "tf_efficientnetv2_b3", "efficientnet_v2_b", "3", {}),
    ("timm", "resnet34", "resnet34", "0", {}),
    ("timm", "mobilenetv4_conv_medium", "mobilenet_v4_conv_medium", "0", {}),
    ("timm", "tf_mobilenetv3_large_minimal_100", "mobilenet_v3_large_minimal", "0", {}),
    ("timm", "tf_efficientnet_em", "efficientnet_edgetpu", "em", {"norm_eps": 1e-3, "padding": "same"}),
    ("timm", "efficientnet_el", "efficientnet_edgetpu", "el", {}),
    ("timm", "tinynet_a", "tinynet", "a", {}),
    ("timm", "tinynet_e", "tinynet", "e", {}),
    ("timm", "regnetx_004", "regnet_x_004", "0", {}),
    ("timm", "regnety_004", "regnet_y_004", "0", {}),
    ("torchvision", "regnet_y_400mf", "regnet_y_004", "0", {}),
]


def family_id(row: tuple[str, str, str, str, dict[str, Any]]) -> str:
    return f"{row[0]}-{row[1]}"


@pytest.mark.parametrize(
    "row", [*FAMILIES, *(pytest.param(row, marks=pytest.mark.slow) for row in LARGE_FAMILIES)], ids=family_id
)
def test_families(tmp_path: Path, row: tuple[str, str, str, str, dict[str, Any]]) -> None:
    """At 70 pixels padding of the strided layers is uneven in some."""
    package, name, spec, phi, options = row
    graph = graph_of(spec, phi, Overrides(resolution=70, **options))
    naming = "torchvision" if name.startswith("resnet") else package  # which timm's ResNets share
    assert_parity(external_model(package, name), graph, tmp_path / "model.safetensors", naming)


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
