"""A whole network with codes: near the float32 one, the same everywhere, and what may be asked of it."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from networks import kinds_graph, lively_weights, noise, relative_error, tiny_graph
from numpy.typing import NDArray

from effgen.errors import BuildError
from effgen.graph import Graph, Weights
from effgen.graph.onnx import graph_from_onnx
from effgen.graph.onnx.write import onnx_from_graph, save_onnx
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.graph.reference import run_reference
from effgen.quantization import watching
from effgen.quantization.correction import corrected_biases
from effgen.quantization.quantize import Quantization, quantize
from effgen.quantization.rewriting import with_biases
from effgen.quantization.watching import answers

pytestmark = pytest.mark.usefixtures("one_torch_thread")

IMAGES = noise((12, 3, 32, 32), seed=4)


@pytest.fixture(scope="module")
def tiny() -> tuple[Graph, Weights]:
    graph = tiny_graph()
    return graph, lively_weights(graph)


@pytest.fixture(scope="module")
def quantised(tiny: tuple[Graph, Weights]) -> Quantization:
    return quantize(*tiny, IMAGES)


def test_it_stays_near(tiny: tuple[Graph, Weights], quantised: Quantization) -> None:
    """Also on images that nobody showed it."""
    assert 0 < quantised.rel_l2 < 0.03 and quantised.images == len(IMAGES)
    fresh = noise((6, 3, 32, 32), seed=5)
    found, expected = answers(quantised.graph, quantised.weights, fresh), answers(*tiny, fresh)
    assert relative_error(found, expected) < 0.03
    assert quantised.agreement is not None and quantised.agreement >= 0.9


def test_every_kind_of_block() -> None:
    graph = kinds_graph(batch=2)
    found = quantize(graph, lively_weights(graph), IMAGES)
    assert found.rel_l2 < 0.05 and len(found.layers) > 8
    assert set(found.graph.codes.values()) == {"uint8"}


def test_layers_are_told_with_their_error(quantised: Quantization) -> None:
    """Each alone does less than all, and together they come to about as much as if they knew nothing of each other."""
    errors = [layer.error for layer in quantised.layers]
    assert all(0 < error < 0.05 for error in errors) and not any(layer.kept for layer in quantised.layers)
    assert 0.3 < np.linalg.norm(errors) / quantised.rel_l2 < 3


def test_weights_are_codes_of_a_byte(quantised: Quantization, tmp_path: Path) -> None:
    files = save_onnx(onnx_from_graph(quantised.graph, quantised.weights), tmp_path / "q.onnx")
    graph, weights = graph_from_onnx(files[0])
    stored = [graph.parameters[f"{layer.name}.weight"].grid for layer in quantised.layers]
    assert all(grid is not None and grid.type == "int8" for grid in stored)
    image = noise(graph.input.shape, seed=6)
    expected = run_reference(quantised.graph, quantised.weights, image)
    assert np.array_equal(run_reference(graph, weights, image), expected)
    assert relative_error(answer_of_file(files[0], image), expected) < 5e-3


def answer_of_file(file: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """onnxruntime's, which rounds a number that lies between two codes as it likes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: image})[0])


def test_the_same_images_give_the_same_network(tiny: tuple[Graph, Weights], quantised: Quantization) -> None:
    again = quantize(*tiny, IMAGES)
    assert again.layers == quantised.layers and again.graph.nodes == quantised.graph.nodes
    assert all(np.array_equal(again.weights[name], array) for name, array in quantised.weights.items())


def test_biases_make_up_for_what_rounding_shifts(tiny: tuple[Graph, Weights]) -> None:
    """Channels that are all moved come back, whatever the layers before them do."""
    graph, weights = fold_batchnorm(*tiny)
    layers = [node for node in graph.nodes if node.op_type in ("Conv", "Gemm")]
    moved = {node.inputs[2]: weights[node.inputs[2]] + np.float32(0.3) for node in layers}
    worse = {**weights, **moved}
    biases = corrected_biases((graph, weights), (graph, worse), {node.output for node in layers}, IMAGES)
    better = with_biases(graph, worse, biases)
    expected = answers(graph, weights, IMAGES)
    assert relative_error(answers(graph, worse, IMAGES), expected) > 0.1
    assert relative_error(answers(*better, IMAGES), expected) < 1e-5


def test_the_worst_layers_stay_float32_until_the_loss_is_small(
    tiny: tuple[Graph, Weights], quantised: Quantization
) -> None:
    half = quantize(*tiny, IMAGES, max_loss=quantised.rel_l2 / 2)
    kept = [layer for layer in half.layers if layer.kept]
    assert half.rel_l2 <= quantised.rel_l2 / 2 and 0 < len(kept) < len(half.layers)
    assert min(layer.error for layer in kept) >= max(layer.error for layer in half.layers if not layer.kept)
    nothing = quantize(*tiny, IMAGES, max_loss=1e-9)
    assert all(layer.kept for layer in nothing.layers) and nothing.rel_l2 < 1e-6 and not nothing.graph.codes


def test_memory_limits_what_is_on_its_way_at_once(tiny: tuple[Graph, Weights], monkeypatch: pytest.MonkeyPatch) -> None:
    """One image at a time, where there is no room for two, is the same network but for the means of fewer images."""
    graph = tiny[0]
    assert len(list(watching.chunks(graph, IMAGES))) == 1
    largest = max(graph.values[node.output].nbytes for node in graph.nodes)
    monkeypatch.setattr(watching, "_MOST_BYTES", 3 * 2 * largest)
    assert [len(chunk) for chunk in watching.chunks(graph, IMAGES)] == [2] * 6
    monkeypatch.setattr(watching, "_MOST_BYTES", 1)
    assert [len(chunk) for chunk in watching.chunks(graph, IMAGES)] == [1] * 12
    assert quantize(*tiny, IMAGES).rel_l2 < 0.05


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:, :, :16], "calibration images: float32 of shape (12, 3, 16, 32): expected float32 (N, 3x32x32)"),
        (IMAGES.astype(np.float64), "calibration images: float64 of shape"),
        (IMAGES[:0], "calibration images: 0: expected at least 1, the batch"),
        (np.where(IMAGES > 3, np.nan, IMAGES), "calibration images: hold NaN or infinity: expected numbers"),
    ],
)
def test_images_that_are_refused(tiny: tuple[Graph, Weights], images: NDArray[np.float32], message: str) -> None:
    with pytest.raises(BuildError) as caught:
        quantize(*tiny, images)
    assert str(caught.value).startswith(message)
