"""`effgen quantize`, from a request to the file on disk."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BuildError
from effgen.files.staging import staged_file
from effgen.network import Network, NetworkRequest
from effgen.network.checkpoints import AS_MEANT
from effgen.network.file_network import OnnxNetwork, OnnxRequest
from effgen.network.model import Model, model_of
from effgen.network.weight_sets import WeightsChoice
from effgen.quantization.images import images_of_array, images_of_folder
from effgen.quantization.quantize import Quantization, quantize
from effgen.words import OnPhase


@dataclass(frozen=True)
class QuantizeRequest:
    """What was asked for. Either `data`, a folder of pictures, or `calibration`, a .npy file of prepared images;
    `images`: as many of them at most; `keep_float` and `max_loss` as `effgen.quantization.quantize` has them;
    `weights`, `seed` and `choice` as `effgen compile` has them."""

    network: NetworkRequest | OnnxRequest
    output: Path
    data: Path | None = None
    calibration: Path | None = None
    images: int = 32
    keep_float: tuple[str, ...] = ()
    max_loss: float | None = None
    weights: Path | None = None
    seed: int = 0
    force: bool = False
    choice: WeightsChoice = AS_MEANT


def quantize_network(
    request: QuantizeRequest, network: Network | OnnxNetwork, on_phase: OnPhase = lambda text: None
) -> tuple[list[Path], Quantization]:
    """Write the network with codes as ONNX; returns the files written, and what became of its layers. Raises an
    EffgenError (one line) for anything that the user can mend; then nothing is left at `request.output`."""
    from effgen.graph.onnx.write import onnx_from_graph, save_onnx

    with staged_file(request.output, request.force) as staged:
        model = model_of(network, request.weights, request.seed, on_phase, request.choice)
        if model.graph.codes:
            raise BuildError(f"{model.title}: is quantised already: compile it as it is, or give the float32 network")
        images = _images(request, model)
        found = quantize(model.graph, model.weights, images, request.keep_float, request.max_loss, on_phase)
        on_phase("export ONNX")
        model = dataclasses.replace(model, graph=found.graph, weights=found.weights)
        files = save_onnx(onnx_from_graph(model.graph, model.weights, model.metadata), staged)
        names = [file.name for file in files]
    return [request.output.parent / name for name in names], found


def _images(request: QuantizeRequest, model: Model) -> NDArray[np.float32]:
    if (request.data is None) == (request.calibration is None):
        raise BuildError(
            "what numbers become codes is seen on images: expected --data DIR, a folder of a few dozen typical "
            "pictures, or --calibration FILE.npy, prepared ones; either of them"
        )
    if request.data is not None:
        return images_of_folder(request.data, model.preparation, request.images)
    assert request.calibration is not None
    return images_of_array(request.calibration, model.graph.input.shape[1:], request.images)
