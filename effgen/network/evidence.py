"""What a checkpoint gives away about its network beside the weights, held against the graph that they are loaded into.

A state dict holds neither batch norm's epsilon nor the padding, nor layers without weights. Names do: those of its
tensors (whose project wrote it), of the model in a training script's notes or a file's metadata, of the file itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effgen.errors import WeightsError
from effgen.files.bounded import UnreadableError, read_json
from effgen.graph import Graph, Node
from effgen.network.checkpoint_names import Naming
from effgen.network.lowering.layers import same_padding
from effgen.network.pickles import StandIn
from effgen.words import Padding

#: Entries of training scripts, metadata and Hugging Face's config.json that name the model.
_KEYS = ("arch", "architecture", "model_arch", "model_name", "model", "backbone", "encoder_name", "name", "net")

#: Entries that hold the above; a module of timm's that was saved whole does too, in its pretrained_cfg.
_HOLDERS = ("args", "hyper_parameters", "hparams", "config", "cfg", "pretrained_cfg", "model_cfg", "opt", "meta")
_MODULES = ("model", "ema", "model_ema", "net")

#: A model's name in timm's and torchvision's words, behind hyphens made underscores.
_MODEL = re.compile(
    r"(?<![a-z])(?:tf_)?(?:adv_)?(?:efficientnet|mobilenet|mobilenet_edgetpu|mnasnet|semnasnet|mixnet|fbnet|lcnet|tinynet"
    r"|spnasnet|ghostnet|hardcorenas|regnet|resnet|wide_resnet|resnetblur|resnetaa)\w*"
)

#: timm's models with layers that leave nothing in a state dict: blurring, or average pooling, where others stride.
_HIDDEN_LAYERS = re.compile(r"(efficientnet|conv)_blur|resnet(blur|aa)|conv_aa_")

#: timm's ports of TensorFlow's weights; efficientnet_pytorch has nothing else.
_TENSORFLOW: tuple[float, Padding] = (1e-3, "same")
_PYTORCH: tuple[float, Padding] = (1e-5, "symmetric")

#: timm's models with PyTorch's padding and TensorFlow's epsilon.
_TENSORFLOWS_EPS = ("mobilenetv3_rw", "fbnetc")

#: torchvision's models that were published with TensorFlow's epsilon, by family and the fewest convolutions in windows
#: (EfficientNet: B5 has 39 blocks, B4 32).
_TORCHVISION_EPS = {
    "efficientnet": 39,
    "efficientnet_v2_s": 0,
    "efficientnet_v2_m": 0,
    "efficientnet_v2_l": 0,
    "mobilenet_v3_large": 0,
    "mobilenet_v3_small": 0,
}

#: Epsilons of one kind differ by less than this factor.
_SAME_EPS = 1.01


@dataclass(frozen=True)
class Claim:
    """A model's name, and where it stands: "its entry arch", "its name"."""

    model: str
    where: str

    @property
    def is_tensorflow(self) -> bool:
        """Whether it is one of timm's ports of TensorFlow's weights."""
        return self.model.startswith("tf_")


def claim_of(path: Path, content: Any, metadata: Mapping[str, str]) -> Claim | None:
    """The first model that is named: in the file, in its metadata, in a config.json beside it, by its path."""
    for entries, where in (
        (content, "its entry"),
        (metadata, "its metadata"),
        (_config_beside(path), "config.json beside it"),
    ):
        for key, text in _texts(entries):
            if model := _model_in(text):
                return Claim(model, f"{where} {key}")
    for part in (path.stem, *(folder.name for folder in list(path.parents)[:3])):
        if model := _model_in(part):
            return Claim(model, "its name" if part == path.stem else "its folder's name")
    return None


def _model_in(text: str) -> str | None:
    found = _MODEL.search(text.lower().replace("-", "_").replace("networks", "nets"))
    return re.sub(r"_[0-9a-f]{8}$", "", found[0]).rstrip("_") if found else None  # releases have a hash at their end


def _texts(entries: Any, holder: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """The entries that name a model, those of `_HOLDERS` after one's own."""
    fields = entries.fields if isinstance(entries, StandIn) else entries
    if not isinstance(fields, Mapping) or depth > 2:
        return
    for key in _KEYS:
        if isinstance(text := fields.get(key), str):
            yield f"{holder}{key}", text[:200]
    for key in (*_HOLDERS, *_MODULES):
        yield from _texts(fields.get(key), f"{holder}{key}.", depth + 1)


def _config_beside(path: Path) -> Any:
    """Hugging Face's, where the file is called as there; None where there is none that can be read."""
    if path.name not in ("model.safetensors", "pytorch_model.bin"):
        return None
    try:
        return read_json(path.parent / "config.json")
    except UnreadableError:
        return None


def check_hidden_layers(claim: Claim | None) -> None:
    """Raise WeightsError for a model that would load and be another: its extra layers are not in the file."""
    if claim is not None and _HIDDEN_LAYERS.search(claim.model):
        raise WeightsError(
            f"is of {claim.model} ({claim.where}), which has layers without weights (blurring or pooling where it "
            f"strides) that no spec has: export that model to ONNX and give it as --onnx"
        )


def warnings_of(graph: Graph, naming: Naming, claim: Claim | None, steps: int | None) -> tuple[str, ...]:
    """Where the evidence points away from the graph's epsilon or padding, or there is none; each without the file's
    name. `steps` are the training steps that batch norms counted, None where they did not."""
    if naming == "effgen":
        return ()
    eps, padding, why = _expected(graph, naming, claim)
    if why:
        return _against(graph, eps, padding, why, _original(naming, claim))
    if naming != "timm":
        return ()
    converted = "; its batch norms counted no training step, as in weights ported from TensorFlow" if steps == 0 else ""
    return (
        f"nothing in it says which of timm's models it is of{converted}: a state dict holds neither padding "
        f"({_padding_of(graph)} here) nor batch-norm eps ({_eps_of(graph):g}) nor layers without weights; "
        f"`effgen verify BUNDLE --against timm:NAME` proves them right",
    )


def _expected(graph: Graph, naming: Naming, claim: Claim | None) -> tuple[float, Padding, str]:
    """Epsilon and padding, and why these; no reason where nothing tells."""
    if naming == "efficientnet_pytorch":
        return *_TENSORFLOW, "its names are efficientnet_pytorch's, whose weights are TensorFlow's"
    if naming == "torchvision":
        fewest = _TORCHVISION_EPS.get(graph.name)
        eps = 1e-3 if fewest is not None and _windows(graph) >= fewest else 1e-5
        return eps, "symmetric", "its names are torchvision's"
    if claim is None:
        return *_PYTORCH, ""
    reason = f"it is of {claim.model} ({claim.where})"
    if claim.is_tensorflow:
        return *_TENSORFLOW, f"{reason}, one of timm's ports of TensorFlow's weights"
    if claim.model.startswith(_TENSORFLOWS_EPS):
        return 1e-3, "symmetric", f"{reason}, whose released weights were trained so"
    return *_PYTORCH, reason


def _original(naming: Naming, claim: Claim | None) -> str:
    if naming == "torchvision" or claim is None:
        return f"{'torchvision' if naming == 'torchvision' else 'timm'}:NAME"
    prefix = "tf_" if naming == "efficientnet_pytorch" and not claim.is_tensorflow else ""
    return f"timm:{prefix}{claim.model}"


def _against(graph: Graph, eps: float, padding: Padding, why: str, original: str) -> tuple[str, ...]:
    """One text about all that differs from what is expected."""
    found = _eps_of(graph)
    wrong_eps = not 1 / _SAME_EPS < found / eps < _SAME_EPS
    wrong_padding = any(_pads(node) != _usual_pads(graph, node, padding) for node in _convolutions(graph))
    if not (wrong_eps or wrong_padding):
        return ()
    preset = "tensorflow" if eps == 1e-3 else "pytorch"
    padding_here, eps_here = (f"{_padding_of(graph)} padding", f"eps {found:g}")
    parts = [(f"{padding} padding", padding_here, f"--padding {padding}")] if wrong_padding else []
    parts += [(f"batch-norm eps {eps:g}", eps_here, f"--norm-eps {preset}")] if wrong_eps else []
    asked, is_here, options = zip(*parts, strict=True)
    return (
        f"{why}: that goes with {' and '.join(asked)}, and this network has {' and '.join(is_here)}; probably "
        f"{' '.join(options)} is missing (`effgen verify BUNDLE --against {original}` proves it)",
    )


def _convolutions(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op_type == "Conv" and graph.parameters[node.inputs[1]].shape[2] > 1]


def _windows(graph: Graph) -> int:
    """How many convolutions have windows, the stem's not counted: a network's blocks, as most have one each."""
    return len(_convolutions(graph)) - 1


def _eps_of(graph: Graph) -> float:
    found = (node.attributes["epsilon"] for node in graph.nodes if node.op_type == "BatchNormalization")
    eps = next(found, 1e-5)
    assert isinstance(eps, float)
    return eps


def _pads(node: Node) -> tuple[int, ...]:
    pads = node.attributes["pads"]
    assert isinstance(pads, tuple)
    return tuple(int(pad) for pad in pads)


def _usual_pads(graph: Graph, node: Node, padding: Padding) -> tuple[int, ...]:
    """What the convolution would have with this padding, in ONNX's order."""
    kernel, stride = graph.parameters[node.inputs[1]].shape[2], node.attributes["strides"]
    assert isinstance(stride, tuple)
    if padding == "symmetric":
        return (kernel // 2,) * 4
    sides = [same_padding(graph.values[node.inputs[0]].shape[axis], kernel, int(stride[axis - 2])) for axis in (2, 3)]
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def _padding_of(graph: Graph) -> Padding:
    symmetric = all(_pads(node) == _usual_pads(graph, node, "symmetric") for node in _convolutions(graph))
    return "symmetric" if symmetric else "same"
