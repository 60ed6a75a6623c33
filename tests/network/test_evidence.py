"""What a file says about its model is held against the options: a warning where they differ, none where they agree."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import message_of
from safetensors.torch import save_file

from effgen.graph import Graph
from effgen.network import NetworkRequest, build_network
from effgen.network.checkpoint_names import SCHEMES
from effgen.network.checkpoints import load_checkpoint
from effgen.network.evidence import Claim, claim_of
from effgen.network.naming import efficientnet_pytorch, timm, torchvision
from effgen.network.naming.layers import graph_name
from effgen.network.scaling import Overrides

TENSORFLOW = {"padding": "same", "norm_eps": 1e-3}
PYTORCH = {"padding": "symmetric", "norm_eps": 1e-5}


def graph_of(spec: str = "efficientnet", pixels: int = 64, **options: Any) -> Graph:
    return build_network(NetworkRequest(spec, overrides=Overrides(resolution=pixels, classes=3, **options))).graph


def state_of(graph: Graph, naming: Callable[..., str]) -> dict[str, torch.Tensor]:
    """Ones under the names of a scheme."""
    found = next(known for known in SCHEMES if known.layer_name == naming)
    return {name: torch.ones(graph.parameters[own].shape) for own, name in found.names_for(graph).items()}


def warnings_of_file(path: Path, graph: Graph, content: Any) -> str:
    torch.save(content, path)
    return " ".join(load_checkpoint(path, graph).warnings)


@pytest.mark.parametrize(
    ("file", "options", "expected"),
    [
        ("tf_efficientnet_b0_aa-827b6e33.pth", PYTORCH, "probably --padding same --norm-eps tensorflow is missing"),
        ("tf_efficientnet_b0.pth", {"padding": "same", "norm_eps": 1e-5}, "probably --norm-eps tensorflow is missing"),
        ("tf_efficientnet_b0.pth", {"padding": "symmetric", "norm_eps": 1e-3}, "probably --padding same is missing"),
        ("tf_efficientnet_b0.pth", TENSORFLOW, ""),
        ("efficientnet-b0.ra4.pth", PYTORCH, ""),
        ("efficientnet_b0.pth", TENSORFLOW, "probably --padding symmetric --norm-eps pytorch is missing"),
        ("best.pth", PYTORCH, "nothing in it says which of timm's models it is of: "),
    ],
)
def test_names_of_files(tmp_path: Path, file: str, options: dict[str, Any], expected: str) -> None:
    graph = graph_of(**options)
    found = warnings_of_file(tmp_path / file, graph, state_of(graph, timm.efficientnet))
    assert (expected in found) if expected else found == ""


def test_padding_that_is_the_same_either_way(tmp_path: Path) -> None:
    """At 97 pixels every strided layer of B0 is padded alike."""
    graph = graph_of(pixels=97, norm_eps=1e-3)
    assert warnings_of_file(tmp_path / "tf_efficientnet_b0.pth", graph, state_of(graph, timm.efficientnet)) == ""


@pytest.mark.parametrize(
    ("naming", "spec", "options", "expected"),
    [
        (
            efficientnet_pytorch.efficientnet,
            "efficientnet",
            PYTORCH,
            "probably --padding same --norm-eps tensorflow is missing",
        ),
        (efficientnet_pytorch.efficientnet, "efficientnet", TENSORFLOW, ""),
        (efficientnet_pytorch.efficientnet, "efficientnet_lite", {}, ""),
        (torchvision.features, "efficientnet", PYTORCH, ""),
        (torchvision.features, "efficientnet", TENSORFLOW, "probably --padding symmetric --norm-eps pytorch"),
        (torchvision.features, "efficientnet_v2_s", {}, "probably --padding symmetric is missing"),
        (torchvision.features, "efficientnet_v2_s", {"padding": "symmetric"}, ""),
        (torchvision.flat, "mobilenet_v3_large", {}, "probably --norm-eps tensorflow is missing"),
        (torchvision.flat, "mobilenet_v3_large", {"norm_eps": 1e-3}, ""),
        (torchvision.resnet, "resnet50", {}, ""),
        (graph_name, "efficientnet", TENSORFLOW, ""),
    ],
)
def test_names_of_tensors(
    tmp_path: Path, naming: Callable[..., str], spec: str, options: dict[str, Any], expected: str
) -> None:
    graph = graph_of(spec, **options)
    found = warnings_of_file(tmp_path / "weights.pth", graph, state_of(graph, naming))
    assert (expected in found) if expected else found == ""


def test_torchvisions_larger_efficientnets_have_another_epsilon(tmp_path: Path) -> None:
    for phi, eps in (("4", 1e-5), ("5", 1e-3)):
        overrides = Overrides(resolution=64, classes=3, width=0.3, norm_eps=eps)
        graph = build_network(NetworkRequest(phi=phi, overrides=overrides)).graph
        assert warnings_of_file(tmp_path / "a.pth", graph, state_of(graph, torchvision.features)) == ""


@pytest.mark.parametrize("steps", [0, 7])
def test_batch_norms_that_counted_nothing(tmp_path: Path, steps: int) -> None:
    graph = graph_of()
    state = state_of(graph, timm.efficientnet) | {"bn1.num_batches_tracked": torch.tensor(steps)}
    found = warnings_of_file(tmp_path / "a.pth", graph, state)
    assert ("counted no training step" in found) == (steps == 0)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({"arch": "efficientnet_blur_b0"}, "its entry arch"),
        ({"args": Namespace(model="efficientnet_blur_b0.in1k")}, "its entry args.model"),
        ({"hyper_parameters": {"backbone": "timm/efficientnet_blur_b0"}}, "its entry hyper_parameters.backbone"),
    ],
)
def test_layers_that_leave_nothing_in_a_file(tmp_path: Path, content: dict[str, Any], where: str) -> None:
    graph = graph_of()
    torch.save({"state_dict": state_of(graph, timm.efficientnet), **content}, tmp_path / "a.pth")
    assert message_of(tmp_path / "a.pth", graph).startswith(
        f"is of efficientnet_blur_b0 ({where}), which has layers without weights"
    )
    torch.save(state_of(graph, timm.efficientnet), tmp_path / "efficientnet_blur_b0-1a2b.pth")
    assert message_of(tmp_path / "efficientnet_blur_b0-1a2b.pth", graph).endswith("give it as --onnx")


def test_safetensors_metadata_and_hugging_faces_config(tmp_path: Path) -> None:
    graph = graph_of()
    path = tmp_path / "model.safetensors"
    save_file(state_of(graph, timm.efficientnet), path, metadata={"architecture": "tf_efficientnet_b0"})
    found = load_checkpoint(path, graph)
    assert found.model == "tf_efficientnet_b0" and "its metadata architecture" in found.warnings[0]
    save_file(state_of(graph, timm.efficientnet), path)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "tf_efficientnet_b0", "num_classes": 3}))
    assert "config.json beside it" in load_checkpoint(path, graph).warnings[0]
    (tmp_path / "config.json").write_bytes(b"[" * 100_000)
    assert "nothing in it says" in load_checkpoint(path, graph).warnings[0]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("tf_efficientnet_lite0-0aa007d2.pth", "tf_efficientnet_lite0"),
        ("models--timm--tf_efficientnet_b0.ns_jft_in1k/snapshots/1a/model.safetensors", "tf_efficientnet_b0"),
        ("efficientnet-b0-355c32eb.pth", "efficientnet_b0"),
        ("pytorch_model.bin", None),
    ],
)
def test_models_in_paths(path: str, model: str | None) -> None:
    claim = claim_of(Path("/nowhere/at/all/below") / path, {}, {})
    assert (claim and claim.model) == model


def test_claims_of_odd_contents() -> None:
    assert claim_of(Path("a.pth"), {"arch": 3, "args": [1], "model": {"name": "x"}}, {}) is None
    assert claim_of(Path("a.pth"), [1, 2], {"model": "ResNet50"}) == Claim("resnet50", "its metadata model")
    assert claim_of(Path("a.pth"), np.zeros(3), {}) is None
