"""The exported file is valid ONNX and computes, in another runtime, what the graph computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import lively_weights, noise, relative_error, tiny_graph
from numpy.typing import NDArray

from effgen import export
from effgen.export import onnx_from_graph, save_onnx
from effgen.graph import Graph, Weights
from effgen.passes.fold_batchnorm import fold_batchnorm
from effgen.reference import run_reference
from effgen.version import __version__


def run_onnxruntime(path: Path, image: NDArray[np.float32]) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs the exported file")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"image": image})
    return found


def assert_exported(path: Path, graph: Graph, weights: Weights) -> None:
    """The file that holds `graph` gives the reference's result."""
    image = noise(graph.input.shape)
    expected = run_reference(graph, weights, image)
    assert relative_error(run_onnxruntime(path, image), expected) < 5e-6


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
def test_onnxruntime_agrees(tmp_path: Path, variant: str, folded: bool) -> None:
    graph = tiny_graph(batch=2, **VARIANTS[variant])
    weights: Weights = lively_weights(graph)
    if folded:
        graph, weights = fold_batchnorm(graph, weights)
    path = tmp_path / "tiny.onnx"
    assert save_onnx(onnx_from_graph(graph, weights), path) == [path]
    assert_exported(path, graph, weights)


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
