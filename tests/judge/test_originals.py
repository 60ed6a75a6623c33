"""A bundle against the model that its weights come from: right options pass, wrong ones are found out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from networks import relative_error
from zoo import external_model

from effgen.errors import BundleError, EffgenError
from effgen.graph.reference import run_reference
from effgen.judge import originals
from effgen.judge.originals import Original, original_from_text, original_judge
from effgen.network import NetworkRequest, build_network
from effgen.network.checkpoint_names import schemes_of
from effgen.network.model import Model, model_from_network
from effgen.network.scaling import Overrides

SMALL = Overrides(width=0.35, head_channels=1280, classes=5, resolution=64)
OPTIONS = ["--spec", "mobilenet_v2", "--width", "0.35", "--head-channels", "1280", "--classes", "5"]
OPTIONS += ["--resolution", "64"]


@cache
def state() -> dict[str, torch.Tensor]:
    return external_model("timm", "mobilenetv2_035", num_classes=5).state_dict()


@dataclass
class Judged:
    model: Model
    manifest: Any


def model_of(path: Path | None, overrides: Overrides = SMALL, spec: str = "mobilenet_v2") -> Judged:
    """What a bundle's manifest says of a model, without compiling it."""
    model = model_from_network(build_network(NetworkRequest(spec, overrides=overrides)), path, 3, lambda text: None)
    shape = list(model.graph.input.shape)
    return Judged(model, SimpleNamespace(name=model.title, network=model.facts, input={"shape": shape}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(state(), tmp_path / "mobilenetv2_035-0a1b2c3d.pth")
    return tmp_path / "mobilenetv2_035-0a1b2c3d.pth"


def distance(judged: Judged, original: Original, file: Path | None) -> float:
    _, judge = original_judge(judged.manifest, original, file)
    image = np.random.default_rng().standard_normal(judged.model.graph.input.shape, dtype=np.float32)
    return relative_error(run_reference(judged.model.graph, judged.model.weights, image), judge(image))


def test_the_original_with_these_weights(file: Path) -> None:
    assert distance(model_of(file), Original("timm"), file) <= 1e-5  # its name is the file's
    assert distance(model_of(file), Original("timm", "mobilenetv2_035"), file) <= 1e-5
    wrong = [replace(SMALL, padding="same"), replace(SMALL, norm_eps=1e-1)]
    assert all(distance(model_of(file, overrides), Original("timm"), file) > 1e-2 for overrides in wrong)


def test_a_spec_with_weights_of_a_seed() -> None:
    judged = model_of(None, Overrides(resolution=64, classes=5))
    assert distance(judged, Original("torchvision", "mobilenet_v2"), None) <= 1e-5
    name, _ = original_judge(judged.manifest, Original("torchvision", "mobilenet_v2"), None)
    assert name.startswith("torchvision ") and name.endswith("'s mobilenet_v2")


def test_weights_of_efficientnet_pytorch_are_tensorflows(tmp_path: Path) -> None:
    """timm's efficientnet_b0 pads otherwise: the original under that name is tf_efficientnet_b0."""
    overrides = Overrides(resolution=64, classes=5, padding="same", norm_eps=1e-3)
    graph = build_network(NetworkRequest("efficientnet", overrides=overrides)).graph
    weights = external_model("timm", "tf_efficientnet_b0", num_classes=5).state_dict()
    (timm,), (lukemelas,) = (schemes_of([stem]) for stem in ("conv_stem.weight", "_conv_stem.weight"))
    names = lukemelas.names_for(graph)
    file = tmp_path / "efficientnet-b0-355c32eb.pth"
    torch.save({names[own]: weights[found] for own, found in timm.names_for(graph).items()}, file)
    judged = model_of(file, overrides, "efficientnet")
    assert judged.model.facts["weights"]["naming"] == "efficientnet_pytorch"
    assert distance(judged, Original("timm"), file) <= 1e-5


def test_what_cannot_be_judged(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = model_of(file)

    def message(original: Original, given: Path | None = file, manifest: Any = judged.manifest) -> str:
        with pytest.raises(EffgenError) as caught:
            original_judge(manifest, original, given)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert message(Original("timm"), None).endswith(
        f"give --weights {file.name}, the file that the bundle was compiled from"
    )
    assert message(Original("timm", "mobilenetv2_053")).startswith(
        "--against timm:mobilenetv2_053: mobilenetv2_053: unknown model; did you mean mobilenetv2_0"
    )
    assert "another network: " in message(Original("timm", "mobilenetv2_050"))
    other = tmp_path / "other.pth"
    torch.save(dict(list(state().items())[:3]), other)
    assert message(Original("timm"), other).startswith(f"{other}: not the {file.name} that the bundle was compiled")
    assert "No such file" in message(Original("timm"), tmp_path / "none")
    onnx = SimpleNamespace(name="a", network={"onnx": {}}, input={})
    assert message(Original("timm"), manifest=onnx).endswith("compiled from an ONNX file; leave it out")
    anonymous = {**judged.model.facts, "weights": {"origin": "seed", "seed": 0}}
    said = message(Original("timm"), manifest=SimpleNamespace(network=anonymous, input=judged.manifest.input, name="a"))
    assert "does not say which model it is of: give NAME; " in said and "mobilenetv2_100" in said

    def missing(name: str) -> str:
        raise originals.PackageNotFoundError(name)

    monkeypatch.setattr(originals, "version", missing)
    assert message(Original("timm")) == "--against timm: timm is not installed: pip install timm"


def test_texts() -> None:
    assert original_from_text("timm") == Original("timm")
    assert original_from_text("torchvision:resnet50") == Original("torchvision", "resnet50")
    with pytest.raises(BundleError, match="--against keras: expected timm or torchvision"):
        original_from_text("keras")


def test_compile_and_verify(file: Path, tmp_path: Path, run: Any) -> None:
    """Wrong options load, with a warning, and fail; the file's name says what is the matter."""
    wrong, right = tmp_path / "wrong", tmp_path / "right"
    code, out, err = run("compile", *OPTIONS, "--padding", "same", "--weights", file, "-o", wrong)
    assert code == 0 and "DOUBTFUL" in out
    said = " ".join(err.split())
    assert f"warning: {file.name}: it is of mobilenetv2_035 (its name): that goes with symmetric padding" in said
    assert "probably --padding symmetric is missing" in said
    code, out, err = run("verify", wrong, "--against", "timm", "--weights", file, "-q")
    assert code == 3 and "FAIL" in out
    assert err.endswith("timm is another network: check --padding, --norm-eps and --spec\n")
    assert run("compile", *OPTIONS, "--weights", file, "-o", right)[0] == 0
    code, out, _ = run("verify", right, "--against", "timm", "--weights", file)
    assert code == 0 and "mobilenetv2_035" in out
