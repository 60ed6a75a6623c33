"""The exported file is valid ONNX and computes, in another runtime, what the graph computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import kinds_graph, lively_weights, noise, relative_error, tiny_graph
from numpy.typing import NDArray

from effgen.driver import export_network
from effgen.graph import Graph, Weights
from effgen.graph.onnx import write as export
from effgen.graph.onnx.write import onnx_from_graph, save_onnx
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.graph.reference import run_reference
from effgen.network import NetworkRequest, build_network
from effgen.network.scaling import Overrides
from effgen.version import __version__


def run_onnxruntime(path: Path, image: NDArray[np.float32]) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs the exported file")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"image": image})
    return found


def run_openvino(path: Path, image: NDArray[np.float32]) -> Any:
    """By its names; without the hint it computes in bfloat16 where the processor can."""
    openvino = pytest.importorskip("openvino", reason="runs the exported file")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled({"image": image})["logits"]


RUNTIMES = {"onnxruntime": run_onnxruntime, "openvino": run_openvino}


def assert_exported(path: Path, graph: Graph, weights: Weights) -> None:
    """The file that holds `graph` gives the reference's result in every runtime."""
    image = noise(graph.input.shape)
    expected = run_reference(graph, weights, image)
    for name, run in RUNTIMES.items():
        assert relative_error(run(path, image), expected) < 5e-6, name


VARIANTS = {
    "silu": {},
    "same padding": {"activation": '"silu"\npadding = "same"'},
    "relu": {"activation": '"relu"'},
    "relu6": {"activation": '"relu6"'},
    "hard_swish": {"activation": '"hard_swish"'},
    "hard_sigmoid": {"squeeze_excite": '{ ratio = 0.25, gate = "hard_sigmoid", activation = "relu" }'},
}


@pytest.mark.parametrize("folded", [False, True], ids=["unfolded", "folded"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_runtimes_agree(tmp_path: Path, variant: str, folded: bool) -> None:
    graph = tiny_graph(batch=2, **VARIANTS[variant])
    weights: Weights = lively_weights(graph)
    if folded:
        graph, weights = fold_batchnorm(graph, weights)
    path = tmp_path / "tiny.onnx"
    assert save_onnx(onnx_from_graph(graph, weights), path) == [path]
    assert_exported(path, graph, weights)


@pytest.mark.parametrize("folded", [False, True], ids=["unfolded", "folded"])
def test_other_runtimes_agree_on_every_block_kind(tmp_path: Path, folded: bool) -> None:
    graph = kinds_graph(batch=2)
    weights: Weights = lively_weights(graph)
    if folded:
        graph, weights = fold_batchnorm(graph, weights)
    save_onnx(onnx_from_graph(graph, weights), tmp_path / "kinds.onnx")
    assert_exported(tmp_path / "kinds.onnx", graph, weights)


def test_names_shapes_and_versions() -> None:
    graph = tiny_graph(batch=2)
    model = onnx_from_graph(graph, lively_weights(graph), {"effgen.phi": "0"})
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version) == ("effgen", __version__)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert {prop.key: prop.value for prop in model.metadata_props} == {"effgen.phi": "0"}
    shapes = {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in (*model.graph.input, *model.graph.output, *model.graph.value_info)
    }
    assert shapes == {"image": graph.input.shape} | {n.output: graph.values[n.output].shape for n in graph.nodes}
    assert {tensor.name for tensor in model.graph.initializer} == set(graph.parameters)


def test_metadata_tells_others_how_to_use_the_file(tmp_path: Path) -> None:
    path = tmp_path / "b1.onnx"
    export_network(NetworkRequest(phi="1", batch=2, overrides=Overrides(classes=7)), path, None, 0, True, False)
    facts = {prop.key: prop.value for prop in onnx.load(path, load_external_data=False).metadata_props}
    assert facts == {
        "effgen.network": "efficientnet phi=1",
        "effgen.coefficients": "published row b1",
        "effgen.phi": "1.0",
        "effgen.width": "1.0",
        "effgen.depth": "1.1",
        "effgen.padding": "symmetric",
        "effgen.norm_eps": "1e-05",
        "effgen.classes": "7",
        "effgen.layout": "NCHW",
        "effgen.resize": "272",
        "effgen.crop": "240",
        "effgen.interpolation": "bicubic",
        "effgen.mean": "[0.485, 0.456, 0.406]",
        "effgen.std": "[0.229, 0.224, 0.225]",
        "effgen.version": __version__,
    }
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == facts
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape, image.type) == ("image", [2, 3, 240, 240], "tensor(float)")
    assert (logits.name, logits.shape) == ("logits", [2, 7])


@pytest.mark.slow
@pytest.mark.parametrize("phi", ["0", "3"])
def test_other_runtimes_answer_as_the_published_network(tmp_path: Path, phi: str) -> None:
    network = build_network(NetworkRequest(phi=phi))
    weights = lively_weights(network.graph)
    folded, folded_weights = fold_batchnorm(network.graph, weights)
    save_onnx(onnx_from_graph(folded, folded_weights), tmp_path / "m.onnx")
    image = noise(network.graph.input.shape)
    expected = run_reference(network.graph, weights, image)
    for name, run in RUNTIMES.items():
        assert relative_error(run(tmp_path / "m.onnx", image), expected) <= 1e-4, name


def test_silu_is_sigmoid_and_mul() -> None:
    """Opset 17 has no Swish."""
    graph = tiny_graph()
    model = onnx_from_graph(graph, lively_weights(graph))
    nodes = {node.name: node for node in model.graph.node}
    assert list(nodes["stem.norm.silu.sigmoid"].input) == ["stem.norm"]
    assert list(nodes["stem.norm.silu"].input) == ["stem.norm", "stem.norm.silu.sigmoid"]
    assert not any(node.op_type == "Swish" for node in nodes.values())


def test_bounds_of_clip_are_shared() -> None:
    graph = tiny_graph(activation='"relu6"')
    model = onnx_from_graph(graph, lively_weights(graph))
    surplus = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name not in graph.parameters}
    assert surplus == {"clip.0.0": np.float32(0), "clip.6.0": np.float32(6)}


def test_the_file_is_protobuf_whatever_its_name_is(tmp_path: Path) -> None:
    graph = tiny_graph()
    path = tmp_path / "tiny.json"
    save_onnx(onnx_from_graph(graph, lively_weights(graph)), path)
    assert onnx.load_model(path, format="protobuf").graph.name == "tiny"


def test_weights_beyond_the_limit_go_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice to the same path: the second must not grow the first's data."""
    monkeypatch.setattr(export, "EXTERNAL_ABOVE_BYTES", 10_000)
    graph = tiny_graph()
    sizes = []
    for seed in (0, 1):
        weights = lively_weights(graph, seed)
        path, data = save_onnx(onnx_from_graph(graph, weights), tmp_path / "tiny.onnx")
        assert (path.name, data.name) == ("tiny.onnx", "tiny.onnx.data")
        sizes.append(data.stat().st_size)
        assert_exported(path, graph, weights)
    assert sizes[0] == sizes[1]
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.onnx", "tiny.onnx.data"}


def test_weights_that_are_not_the_graphs_are_our_own_bug() -> None:
    graph = tiny_graph()
    with pytest.raises(AssertionError):
        onnx_from_graph(graph, {})
