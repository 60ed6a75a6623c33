"""The model that a bundle's weights come from, built by its own project where that is installed, with these weights."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from effgen.deploy.executors import Images
from effgen.errors import BundleError, VerifyError, WeightsError, candidates
from effgen.files.strict import first_problem
from effgen.graph import Graph, Weights
from effgen.judge.case import Judge
from effgen.network.build import network_from_spec
from effgen.network.checkpoint_names import prefixes_of, schemes_of
from effgen.network.checkpoints import load_checkpoint
from effgen.network.spec import NetworkSpec
from effgen.network.weight_sets import WeightsChoice
from effgen.network.weights import initial_weights
from effgen.runtime.answers import Answer
from effgen.runtime.manifest import Manifest, sha256_of

#: Projects whose models can be built; --against takes them, with a model's name behind a colon.
PACKAGES = ("timm", "torchvision")

#: Operators whose compiled half is missing where torchvision was built for another PyTorch; none runs in a ConvNet.
_DECLARED = {name: f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")}
_libraries: list[Any] = []  # a declaration lives as long as its Library

#: What timm builds a model with where it loads its released weights, and only then.
_RELEASED = {"fbnetc_100": {"bn_eps": 1e-3}}

#: How many of the models with a like name a message lists.
_LISTED = 12


@dataclass(frozen=True)
class Original:
    """A model of "timm" or "torchvision" by name; None: the one that the checkpoint names."""

    package: Literal["timm", "torchvision"]
    name: str | None = None

    @property
    def text(self) -> str:
        """As --against says it."""
        return self.package if self.name is None else f"{self.package}:{self.name}"


def original_from_text(text: str) -> Original:
    """`--against timm`, `timm:tf_efficientnet_b0`. Raises BundleError for another package."""
    package, _, name = text.partition(":")
    for known in PACKAGES:
        if package == known:
            return Original(known, name or None)  # type: ignore[arg-type]
    raise BundleError(f"--against {text}: expected {' or '.join(PACKAGES)}, or timm:NAME with the model's name there")


def imported(package: str) -> ModuleType:
    """torchvision, timm (which imports torchvision) or a module of either. Raises ImportError or RuntimeError.

    A torchvision that was built for another PyTorch fails to import for want of operators that detectors use: they are
    declared, without a body, and it is imported again.
    """
    with warnings.catch_warnings():  # other projects' warnings are not ours to heed
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::" not in str(error) or _libraries:
                raise
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for schema in _DECLARED.values():
                library.define(schema)
            _libraries.append(library)
            importlib.import_module("torchvision")
        return importlib.import_module(package)


def original_judge(manifest: Manifest, original: Original, weights_file: Path | None) -> tuple[str, Judge]:
    """What the original is called, with its version, and the function that it computes with the bundle's weights.

    `weights_file` is the checkpoint that the bundle was compiled from, which a bundle does not hold as it was; weights
    drawn from a seed are drawn again. Raises BundleError or WeightsError (one line) where the package or the model is
    not there, the file is another one, or the weights do not fit.
    """
    origin = manifest.network.get("weights", {})
    if "spec" not in manifest.network:
        raise BundleError(f"--against {original.text}: {manifest.name} was compiled from an ONNX file; leave it out")
    try:
        spec = NetworkSpec.model_validate(manifest.network["spec"])
    except ValidationError as error:
        raise BundleError(
            f"{manifest.name}: the manifest's network.spec: {first_problem(error, NetworkSpec)}; compile it again"
        ) from None
    graph = network_from_spec(spec, int(manifest.input["shape"][0])).graph
    name, model = _built(original, origin, graph)
    _fill(model, graph, _weights(graph, origin, weights_file, original), original)
    return f"{original.package} {version(original.package)}'s {name}", lambda images: _run(model, images)


def _weights(graph: Graph, origin: Mapping[str, Any], file: Path | None, original: Original) -> Weights:
    if origin.get("origin") != "checkpoint":
        return initial_weights(graph, origin.get("seed", 0))
    if file is None:
        named = origin.get("file", "FILE")
        raise BundleError(
            f"--against {original.text}: needs the weights as they were: give --weights {named}, the file "
            "that the bundle was compiled from"
        )
    try:
        same = sha256_of(file) == origin.get("sha256")
    except OSError as error:
        raise WeightsError(f"{file}: cannot read the checkpoint: {error.strerror or error}") from None
    if not same:
        raise WeightsError(
            f"{file}: not the {origin.get('file', 'one')} that the bundle was compiled from: its hash differs"
        )
    renames = tuple((pattern, replacement) for pattern, replacement in origin.get("renames", []))
    return load_checkpoint(file, graph, WeightsChoice(origin.get("weights_key"), renames)).weights


def _built(original: Original, origin: Mapping[str, Any], graph: Graph) -> tuple[str, Any]:
    """The model's name and the model, with weights of its own, for the graph's classes and channels; `origin` is where
    the bundle's weights come from."""
    try:
        version(original.package)
        module = imported("torchvision.models" if original.package == "torchvision" else "timm")
    except (PackageNotFoundError, ImportError):
        raise BundleError(
            f"--against {original.text}: {original.package} is not installed: pip install {original.package}"
        ) from None
    except RuntimeError as error:
        raise BundleError(f"--against {original.text}: cannot be imported: {' '.join(str(error).split())}") from None
    known, named = module.list_models(), _named_there(original, origin)
    name = original.name or _known_by(named, known)
    if name not in known:
        asked = name or named or graph.name
        near = [model for model in known if asked[:8] in model][:_LISTED]
        why = f"{name}: unknown model" if name else "the checkpoint does not say which model it is of: give NAME"
        raise BundleError(f"--against {original.text}: {why}; {candidates(asked, near)}, ...")
    assert name is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if original.package == "torchvision":
            return name, module.get_model(name, weights=None, num_classes=graph.classes)
        options: dict[str, Any] = {"num_classes": graph.classes, "in_chans": graph.input.shape[1]}
        options |= _RELEASED.get(name, {}) if origin.get("origin") == "checkpoint" else {}
        return name, module.create_model(name, pretrained=False, **options)


def _named_there(original: Original, origin: Mapping[str, Any]) -> str | None:
    """What the checkpoint says that it is of, as the package calls it: timm's ports of efficientnet_pytorch's models,
    whose weights are TensorFlow's, begin with tf_."""
    named = origin.get("model")
    is_port = original.package == "timm" and origin.get("naming") == "efficientnet_pytorch"
    return f"tf_{named.removeprefix('tf_')}" if named and is_port else named


def _known_by(named: str | None, known: list[str]) -> str | None:
    """Of a file's name (`tf_efficientnet_b0_aa_827b6e33`) what is a model's, from its beginning."""
    while named and named not in known:
        named = named.rpartition("_")[0]
    return named or None


def _fill(model: Any, graph: Graph, weights: Weights, original: Original) -> None:
    """Put the weights in, under the project's names. Raises VerifyError where they are not the model's, all of them."""
    import torch

    state = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    schemes = schemes_of(state) if "" in prefixes_of(state) else []
    source = schemes[0].names_for(graph, state) if len(schemes) == 1 else {}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    differing = sorted(set(source.values()) ^ set(state)) or sorted(
        stored for name, stored in source.items() if np.prod(shapes[stored]) != weights[name].size
    )
    if differing:
        raise VerifyError(
            f"--against {original.text}: another network: {len(differing)} tensors differ from {graph.name}'s, "
            f"e.g. {', '.join(differing[:3])}"
        )
    with torch.no_grad():
        for name, stored in source.items():
            state[stored].copy_(torch.from_numpy(np.array(weights[name])).reshape(shapes[stored]))
    model.eval()


def _run(model: Any, images: Images) -> Answer:
    """In batches of the same size or several."""
    import torch

    with torch.inference_mode():
        logits: Answer = model(torch.from_numpy(np.ascontiguousarray(images))).numpy()
    return logits
