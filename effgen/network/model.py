"""A network with its weights, wherever it came from: what the driver compiles."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effgen.graph import Graph, Weights
from effgen.network import Network, NetworkRequest, build_network
from effgen.network.checkpoints import AS_MEANT, load_checkpoint
from effgen.network.file_network import OnnxNetwork, OnnxRequest, read_network
from effgen.network.preparation import preparation_from_spec
from effgen.network.weight_sets import WeightsChoice
from effgen.network.weights import initial_weights
from effgen.runtime.picture import Preparation
from effgen.version import __version__
from effgen.words import OnPhase


@dataclass(frozen=True)
class Model:
    """`graph` may hold batch norms that can be folded. `facts` are the manifest's `network`: what the model was made
    from, plain JSON; `metadata` goes into the exported ONNX file."""

    title: str
    graph: Graph
    weights: Weights
    facts: Mapping[str, Any]
    preparation: Preparation
    metadata: Mapping[str, str]
    #: The classes' names, where the network brings them.
    labels: tuple[str, ...] | None = None


def resolve(request: NetworkRequest | OnnxRequest) -> Network | OnnxNetwork:
    """The network asked for: one of a spec without its weights, or a file as it was read. Raises an EffgenError."""
    return read_network(request) if isinstance(request, OnnxRequest) else build_network(request)


def model_of(
    network: Network | OnnxNetwork,
    checkpoint: Path | None,
    seed: int,
    on_phase: OnPhase,
    choice: WeightsChoice = AS_MEANT,
) -> Model:
    """The network with its weights: the file's own; else of a checkpoint, or drawn from `seed`. Raises WeightsError."""
    if isinstance(network, OnnxNetwork):
        return model_from_onnx(network)
    return model_from_network(network, checkpoint, seed, on_phase, choice)


def model_from_onnx(network: OnnxNetwork) -> Model:
    """The graph as it was read."""
    return Model(
        title=network.title,
        graph=network.graph,
        weights=network.weights,
        facts=network.facts,
        preparation=network.preparation,
        labels=network.metadata.labels,
        metadata={
            "effgen.network": network.title,
            "effgen.origin": network.request.file.name,
            **_texts(network.preparation.facts),
        },
    )


def model_from_network(
    network: Network, checkpoint: Path | None, seed: int, on_phase: OnPhase, choice: WeightsChoice = AS_MEANT
) -> Model:
    """The unfolded network with weights of a checkpoint, or drawn from `seed`. Raises WeightsError."""
    weights, origin = _weights(network, checkpoint, choice, seed, on_phase)
    spec = network.spec
    return Model(
        title=network.title,
        graph=network.graph,
        weights=weights,
        facts={
            "spec": spec.model_dump(mode="json"),
            "phi": network.coefficients.phi,
            "law": network.coefficients.law,
            "coefficients": dataclasses.asdict(network.coefficients),
            "norm_eps": spec.norm.eps,
            "padding": spec.padding,
            "weights": origin,
        },
        preparation=preparation_from_spec(spec.input),
        metadata=_metadata(network),
    )


def _metadata(network: Network) -> dict[str, str]:
    """What others need in order to use the ONNX file: where the network comes from, how a picture is prepared for it.

    Numbers and lists are JSON, e.g. `effgen.mean` is "[0.485, 0.456, 0.406]".
    """
    spec, by = network.spec, network.coefficients
    facts: dict[str, Any] = {"phi": by.phi, "width": by.width, "depth": by.depth}
    facts |= {"padding": spec.padding, "norm_eps": spec.norm.eps, "classes": spec.classifier.classes, "layout": "NCHW"}
    facts |= {"mean": spec.input.mean, "std": spec.input.std, "version": __version__, **spec.input.framing}
    return _texts({**facts, "network": network.title, "coefficients": by.source})


def _texts(facts: Mapping[str, Any]) -> dict[str, str]:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    return {f"effgen.{key}": text for key, text in sorted(texts.items())}


def _weights(
    network: Network, checkpoint: Path | None, choice: WeightsChoice, seed: int, on_phase: OnPhase
) -> tuple[Weights, dict[str, Any]]:
    """The weights and where they come from."""
    if checkpoint is None:
        on_phase(f"initialise weights (seed {seed})")
        return initial_weights(network.graph, seed), {"origin": "seed", "seed": seed}
    on_phase(f"load {checkpoint.name}")
    loaded = load_checkpoint(checkpoint, network.graph, choice)
    return loaded.weights, {"origin": "checkpoint", "file": checkpoint.name, **loaded.facts, **choice.facts}
