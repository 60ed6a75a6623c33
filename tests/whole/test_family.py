"""The shipped family compiled for this machine, and real checkpoints through the compiled library."""

from pathlib import Path

import numpy as np
import pytest
import torch
from zoo import external_model, output_of

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.judge.case import relative_l2
from effgen.judge.verify import verify_bundle
from effgen.machines.processor import missing_features
from effgen.machines.target import load_target
from effgen.network import NetworkRequest
from effgen.network.scaling import Overrides

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("phi", ["0", "1", "2", "3", "4"])
def test_compiles_and_verifies(phi: str, tmp_path: Path) -> None:
    manifest = compile_bundle(CompileRequest(NetworkRequest(phi=phi), tmp_path / "b"))
    report = verify_bundle(tmp_path / "b")
    assert report.passed
    assert report.rel_l2 <= 1e-5
    assert {kernel["family"] for kernel in manifest.kernels} >= {"pointwise", "depthwise", "dense"}
    assert all(kernel["source"] != "fallback" for kernel in manifest.kernels)


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("batch", [1, 3])
def test_other_targets_and_batches(target: str, batch: int, tmp_path: Path) -> None:
    if missing := missing_features(load_target(target).features):
        pytest.skip(f"this processor lacks {', '.join(missing)}")
    request = NetworkRequest(batch=batch, overrides=Overrides(resolution=112))
    compile_bundle(CompileRequest(request, tmp_path / "b", target=target))
    assert verify_bundle(tmp_path / "b").passed


@pytest.mark.parametrize(
    ("package", "name", "overrides"),
    [
        ("torchvision", "efficientnet_b0", Overrides()),
        ("timm", "efficientnet_b0", Overrides()),
        ("timm", "tf_efficientnet_b0", Overrides(norm_eps=1e-3, padding="same")),
    ],
)
def test_real_models_through_the_library(package: str, name: str, overrides: Overrides, tmp_path: Path) -> None:
    model = external_model(package, name)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    request = CompileRequest(NetworkRequest(overrides=overrides), tmp_path / "b", weights=tmp_path / "weights.pth")
    compile_bundle(request)
    image = np.random.default_rng(5).standard_normal((1, 3, 224, 224), dtype=np.float32)
    assert relative_l2(effgen.load(tmp_path / "b")(image), output_of(model, image)) <= 1e-5
