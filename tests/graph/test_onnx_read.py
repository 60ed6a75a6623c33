"""Reading back what export writes: the same graph, the same arrays, the same answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import kinds_graph
from onnx import TensorProto, helper, numpy_helper

from effgen.errors import GraphError
from effgen.graph import Graph, GraphBuilder, Value
from effgen.graph.onnx import graph_from_onnx
from effgen.graph.onnx import write as export
from effgen.graph.onnx.write import onnx_from_graph, save_onnx
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.network.lowering.network import lower
from effgen.network.spec import NetworkSpec, parse_spec
from effgen.network.weights import initial_weights

SPEC = """
name = "tiny"
activation = "silu"
padding = "same"
[norm]
eps = 1e-3
[input]
resolution = 32
[stem]
channels = 8
activation = "relu6"
[[stages]]
block = "mbconv"
kernel = 5
stride = 2
channels = 8
repeats = 2
expand_ratio = 4
squeeze_excite = { ratio = 0.25, gate = "hard_sigmoid", activation = "relu" }
[[stages]]
block = "mbconv"
kernel = 3
stride = 1
channels = 16
repeats = 1
activation = "hard_swish"
squeeze_excite = { ratio = 0.5 }
[head]
channels = 32
[classifier]
classes = 10
"""


def tiny() -> NetworkSpec:
    return parse_spec(SPEC, "tiny")


def without_scopes(graph: Graph) -> Graph:
    return replace(graph, nodes=tuple(replace(node, scope="") for node in graph.nodes))


def rounded(graph: Graph) -> Graph:
    """Attributes as ONNX keeps them: 1/6 is not a float32."""

    def float32(value: object) -> object:
        return np.float32(value) if isinstance(value, float) else value

    nodes = [
        replace(node, attributes={key: float32(value) for key, value in node.attributes.items()})
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def exported(graph: Graph, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    weights = initial_weights(graph, seed=1)
    path = folder / "model.onnx"
    save_onnx(onnx_from_graph(graph, weights), path)
    return path, weights


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("name", ["tiny", "kinds"])
def test_round_trip(name: str, fold: bool, tmp_path: Path) -> None:
    graph = kinds_graph(batch=2) if name == "kinds" else lower(tiny(), batch=2)
    weights = initial_weights(graph, seed=1)
    if fold:
        graph, weights = fold_batchnorm(graph, weights)
    path = tmp_path / "model.onnx"
    save_onnx(onnx_from_graph(graph, weights), path)
    read, arrays = graph_from_onnx(path)
    assert rounded(read) == rounded(without_scopes(graph))
    assert arrays.keys() == weights.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, weights[name])


def test_epsilon_is_the_decimal_that_was_written(tmp_path: Path) -> None:
    path, _ = exported(lower(tiny()), tmp_path)
    read, _ = graph_from_onnx(path)
    epsilons = {node.attributes["epsilon"] for node in read.nodes if node.op_type == "BatchNormalization"}
    assert epsilons == {1e-3}


def test_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "EXTERNAL_ABOVE_BYTES", 0)
    path, weights = exported(lower(tiny()), tmp_path)
    assert (tmp_path / "model.onnx.data").exists()
    _, arrays = graph_from_onnx(path)
    name = "stages.0.0.depthwise.conv.weight"
    np.testing.assert_array_equal(arrays[name], weights[name])


def test_gate_that_is_read_twice_is_no_swish(tmp_path: Path) -> None:
    b = GraphBuilder("g", Value("image", (1, 2, 4, 4)))
    gate = b.add("Sigmoid", ["image"], "gate")
    graph = b.finish(b.add("Add", [b.add("Mul", ["image", gate], "product"), gate], "sum"))
    save_onnx(onnx_from_graph(graph, {}), tmp_path / "m.onnx")
    assert graph_from_onnx(tmp_path / "m.onnx")[0] == graph


def model(
    nodes: list[onnx.NodeProto], path: Path, weights: tuple[onnx.TensorProto, ...] = (), shape: object = (1, 2, 4, 4)
) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    body = helper.make_graph(nodes, "g", [x], [y], list(weights))
    onnx.save(helper.make_model(body), path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(GraphError) as caught:
        graph_from_onnx(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unsupported_operators_are_all_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Erfinv", ["x"], ["t"]), helper.make_node("Det", ["t"], ["y"])]
    assert "operators that are not supported: Det, Erfinv" in refused(model(nodes, tmp_path / "m.onnx"))


def test_weights_of_another_type_are_refused(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.int8), "w")
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    assert "w: weights of type INT8" in refused(model([conv], tmp_path / "m.onnx", (weight,)))


def test_dynamic_shape_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    line = refused(model([node], tmp_path / "m.onnx", shape=("n", 2, "height", 4)))
    assert "found shape (n, 2, height, 4): axis 2 is height, expected a static shape" in line


def test_unreadable_files(tmp_path: Path) -> None:
    assert "cannot read the model" in refused(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("this is not a model")
    assert "not a readable ONNX model" in refused(tmp_path / "text.onnx")
