"""torchvision's own exports, whole: read, compiled, and held to onnxruntime on images never seen before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import answer
from networks import relative_error
from zoo import export_onnx, external_model

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.graph.reference import run_reference
from effgen.network.file_network import OnnxRequest, read_network

pytestmark = pytest.mark.slow

INCEPTION: dict[str, Any] = {"transform_input": True, "init_weights": False}


def compiled(name: str, size: int, folder: Path, dynamo: bool = False, **options: Any) -> tuple[Path, Any]:
    path = export_onnx(external_model("torchvision", name, **options), folder / f"{name}.onnx", size, dynamo=dynamo)
    return path, compile_bundle(CompileRequest(OnnxRequest(path), folder / "bundle"))


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("resnet18", 161, {}),
        ("resnet152", 224, {}),
        ("densenet121", 224, {}),
        ("inception_v3", 299, INCEPTION),
    ],
)
def test_agrees_with_onnxruntime(name: str, size: int, options: dict[str, Any], tmp_path: Path) -> None:
    path, manifest = compiled(name, size, tmp_path, **options)
    model = effgen.load(tmp_path / "bundle")
    for seed in (101, 102):
        image = np.random.default_rng(seed).standard_normal((1, 3, size, size), dtype=np.float32)
        assert relative_error(model(image), answer(path, image)) <= 1e-5
    assert all(kernel["source"] != "fallback" for kernel in manifest.kernels)


@pytest.mark.parametrize(
    ("name", "size", "dynamo", "options"),
    [
        ("resnet18", 64, True, {}),
        ("inception_v3", 139, True, INCEPTION),
        ("googlenet", 65, False, INCEPTION),
        ("mobilenet_v2", 65, False, {}),
        ("mobilenet_v3_small", 65, False, {}),
        ("mnasnet1_0", 65, False, {}),
        ("squeezenet1_1", 65, False, {}),
        ("shufflenet_v2_x1_0", 65, False, {}),
        ("shufflenet_v2_x1_0", 65, True, {}),
        ("regnet_y_400mf", 65, False, {}),
        ("alexnet", 224, False, {}),
        ("efficientnet_b0", 65, False, {}),
    ],
)
def test_is_understood(name: str, size: int, dynamo: bool, options: dict[str, Any], tmp_path: Path) -> None:
    """Not compiled: only read, and run by PyTorch."""
    if dynamo:
        pytest.importorskip("onnxscript")
    model = external_model("torchvision", name, **options)
    path = export_onnx(model, tmp_path / "m.onnx", size, dynamo=dynamo)
    network = read_network(OnnxRequest(path))
    image = np.random.default_rng(5).standard_normal((1, 3, size, size), dtype=np.float32)
    assert relative_error(run_reference(network.graph, network.weights, image), answer(path, image)) <= 1e-5
