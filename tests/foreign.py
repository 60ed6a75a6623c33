"""Small ONNX models as other programs write them, and what onnxruntime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import noise, relative_error
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from effgen.errors import GraphError
from effgen.graph import Graph, Weights
from effgen.graph.onnx import graph_from_onnx
from effgen.graph.onnx.write import onnx_from_graph, save_onnx
from effgen.graph.reference import run_reference

Array = NDArray[Any]


def node(op_type: str, inputs: Sequence[str], output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, list(inputs), output.split(), **attributes)


def save_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array] | None = None,
    shape: Sequence[int | str] = (1, 6, 9, 11),
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """A model from `x` of this shape to `y`."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    body = helper.make_graph(list(nodes), "g", [helper.make_tensor_value_info("x", dtype, shape)], results, tensors)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.producer_name, model.producer_version = "someone", "1.2"
    onnx.save(model, path)
    return path


def answer(path: Path, image: Array) -> Array:
    """onnxruntime's."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Further optimisations compute codes with whole numbers, whose sums saturate on processors without VNNI.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: image})[0])


def assert_understood(path: Path, batch: int | None = None, tolerance: float = 2e-6) -> tuple[Graph, Weights]:
    """The graph read from `path`, and the file that is exported of it, compute what the file says."""
    graph, weights = graph_from_onnx(path, batch)
    image = 2 * noise(graph.input.shape, seed=3)
    expected = answer(path, image)
    assert np.abs(expected).max() > 0
    found = run_reference(graph, weights, image)
    assert found.shape == expected.shape
    assert relative_error(found, expected) <= tolerance
    again = path.with_suffix(".again.onnx")
    save_onnx(onnx_from_graph(graph, weights), again)
    assert relative_error(answer(again, image), expected) <= tolerance
    assert [n.op_type for n in graph_from_onnx(again)[0].nodes] == [n.op_type for n in graph.nodes]
    return graph, weights


def operators(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def integers(*values: int) -> Array:
    return np.array(values, np.int64)


def scalar(value: float) -> Array:
    return np.array(value, np.float32)


KERNEL = {"w": noise((4, 6, 3, 3)), "b": noise((4,))}


def refused(path: Path, batch: int | None = None) -> str:
    with pytest.raises(GraphError) as caught:
        graph_from_onnx(path, batch)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")
