"""Files of several outputs: all of them, some of them, or tensors inside; onnxruntime is the judge of each."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from foreign import KERNEL, node, operators, refused, save_model
from networks import noise, relative_error
from onnx import TensorProto, helper

from effgen.errors import GraphError
from effgen.graph import Graph
from effgen.graph.onnx import graph_from_file, graph_from_onnx, open_onnx
from effgen.graph.onnx.write import onnx_from_graph, save_onnx
from effgen.graph.reference import reference_outputs


def understood(path: Path, outputs: tuple[str, ...] = ()) -> Graph:
    """The graph of the file; it, and the file exported of it, give what onnxruntime gives, in order and by name."""
    file = open_onnx(path, outputs=outputs)
    graph, weights = graph_from_file(file)
    image = noise(graph.input.shape)
    expected = _answers(path, file.outputs, image)
    save_onnx(onnx_from_graph(graph, weights), again := path.with_suffix(".again.onnx"))
    assert graph_from_onnx(again)[0].outputs == graph.outputs == file.outputs
    for found in (reference_outputs(graph, weights, image), _answers(again, graph.outputs, image)):
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape == theirs.shape and relative_error(ours, theirs) <= 2e-6
    return graph


def _answers(path: Path, outputs: tuple[str, ...], image: np.ndarray) -> list[np.ndarray]:
    import onnx

    model = onnx.load(path)
    known = {info.name for info in model.graph.output}
    inner = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name not in known]
    model.graph.output.extend(inner)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(list(outputs), {"x": image})]


TWO = [node("Conv", ["x", "w", "b"], "image"), node("Relu", ["image"], "relu"),
       node("GlobalAveragePool", ["relu"], "pool"), node("Flatten", ["pool"], "vector")]  # fmt: skip


def test_all_outputs_in_the_files_order(tmp_path: Path) -> None:
    graph = understood(save_model(tmp_path / "m.onnx", TWO, KERNEL, outputs=("vector", "image", "pool")))
    assert graph.outputs == ("vector", "image", "pool") and graph.classes is None


@pytest.mark.parametrize("outputs", [("p", "q", "r"), ("r", "q", "p"), ("q", "y"), ("r", "q")])
def test_one_tensor_of_several_names(tmp_path: Path, outputs: tuple[str, ...]) -> None:
    """What Identity, Dropout and a Reshape to the same shape make; one name is left, the others are Identity of it."""
    nodes = [node("Conv", ["x", "w", "b"], "y"), node("Identity", ["y"], "p"), node("Dropout", ["y"], "q"),
             node("Reshape", ["p", "same"], "r")]  # fmt: skip
    constants = {**KERNEL, "same": np.array([0, 0, 0, -1], np.int64)}
    graph = understood(save_model(tmp_path / "m.onnx", nodes, constants, outputs=outputs))
    assert operators(graph) == ["Conv", *["Identity"] * (len(outputs) - 1)]


def test_an_output_that_others_read_keeps_its_value(tmp_path: Path) -> None:
    """Nothing is fused or folded over it."""
    nodes = [node("Conv", ["x", "w", "b"], "y"), node("Sigmoid", ["y"], "gate"), node("Mul", ["gate", "y"], "swish"),
             node("Mul", ["y", "two"], "double")]  # fmt: skip
    constants = {**KERNEL, "two": np.array(2, np.float32)}
    graph = understood(save_model(tmp_path / "m.onnx", nodes, constants, outputs=("swish", "double", "gate", "y")))
    assert operators(graph) == ["Conv", "Sigmoid", "Mul", "Mul"]


def test_some_outputs_or_tensors_inside(tmp_path: Path) -> None:
    """What only the others need may be unknown."""
    odd = [node("Relu", ["x"], "read"), node("Asinh", ["image"], "odd"), node("TopK", ["vector", "k"], "top where")]
    constants = {**KERNEL, "k": np.array([2], np.int64)}
    path = save_model(tmp_path / "m.onnx", [*TWO, *odd], constants, outputs=("top", "odd", "vector", "read"))
    assert "operators that are not supported: Asinh, TopK" in refused(path)
    assert operators(understood(path, ("vector",))) == ["Conv", "Relu", "GlobalAveragePool", "Flatten"]
    assert operators(understood(path, ("pool", "image"))) == ["Conv", "Relu", "GlobalAveragePool"]
    assert operators(understood(path, ("read",))) == ["Relu"]


def test_names_that_are_no_output(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", TWO, KERNEL, outputs=("vector", "image"))
    for names, line in {
        ("vektor",): "--outputs vektor: no tensor of that name; did you mean vector? known: image, vector",
        ("image", "rel"): "--outputs rel: no tensor of that name; did you mean relu? known: image, vector",
        ("image", "image"): "--outputs image,image: image is there twice",
        ("x",): "--outputs x: no tensor of that name; known: image, vector",
    }.items():
        with pytest.raises(GraphError) as caught:
            open_onnx(path, outputs=names)
        assert str(caught.value) == f"{path}: {line}"


def test_outputs_that_the_network_does_not_compute(tmp_path: Path) -> None:
    nodes = [*TWO, node("Identity", ["x"], "same"), node("Identity", ["b"], "fixed")]
    for name, why in {
        "same": "is the input itself: expected a tensor that the network computes",
        "fixed": "fixed is not computed from the image: expected a tensor of the network",
    }.items():
        line = refused(save_model(tmp_path / "m.onnx", nodes, KERNEL, outputs=("image", name)))
        assert line == f"output {name}: {why}; --outputs can leave it out"
        assert refused(save_model(tmp_path / "m.onnx", nodes, KERNEL, outputs=(name,))) == f"output {name}: {why}"
