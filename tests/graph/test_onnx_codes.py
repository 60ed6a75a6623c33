"""Files that hold whole-number codes (QDQ): read as onnxruntime reads them, written again as they were, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign import Array, answer, assert_understood, floats, node, operators, refused, save_model, scalar
from networks import noise

from effgen.graph import GraphBuilder, Value
from effgen.graph.codes import Grid
from effgen.graph.onnx import graph_from_onnx
from effgen.graph.onnx.write import onnx_from_graph, save_onnx
from effgen.graph.ops import CODES
from effgen.graph.reference import run_reference


def codes(op_type: str, source: str, output: str, of: str, **attributes: Any) -> onnx.NodeProto:
    """Quantize or Dequantize with the constants `of`.scale and `of`.zero."""
    return node(f"{op_type}Linear", [source, f"{of}.scale", f"{of}.zero"], output, **attributes)


def there_and_back(source: str, output: str, of: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [
        codes("Quantize", source, f"{output}.codes", of, **attributes),
        codes("Dequantize", f"{output}.codes", output, of, **attributes),
    ]


def grid(name: str, scale: float | list[float], zero: int | list[int], kind: str = "uint8") -> dict[str, Array]:
    return {f"{name}.scale": np.array(scale, np.float32), f"{name}.zero": np.array(zero, kind)}


#: A convolution of 6 channels to 4 whose weights are codes, each output channel with a scale of its own.
WEIGHTS: dict[str, Array] = {
    "w.codes": np.random.default_rng(5).integers(-127, 128, (4, 6, 3, 3)).astype(np.int8),
    "b.codes": np.array([70_000, -2_000_000, 5, 0], np.int32),
    **grid("w", [0.011, 0.02, 3e-4, 0.007], [0, 0, 0, 0], "int8"),
    **grid("x", 0.03, 130),
    **grid("y", 0.05, 120),
}
WEIGHTS |= {"b.scale": WEIGHTS["w.scale"] * np.float32(0.03), "b.zero": np.zeros(4, np.int32)}
CONVOLUTION = [
    *there_and_back("x", "x1", "x"),
    codes("Dequantize", "w.codes", "w", "w", axis=0),
    codes("Dequantize", "b.codes", "b", "b", axis=0),
    node("Conv", ["x1", "w", "b"], "a", pads=[1] * 4),
    *there_and_back("a", "y", "y"),
]


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("axis", [None, 1, -1])
def test_codes_are_onnxruntimes(kind: str, axis: int | None, tmp_path: Path) -> None:
    """Ties to even before the zero point is added, the least and the greatest code where numbers lie beyond."""
    low, high = CODES[kind]
    span = {None: 1, 1: 6, -1: 11}[axis]
    scales = [0.5] if axis is None else [0.25 * (1 + i) for i in range(span)]
    zeros = [low + (high - low) * (1 + i) // (span + 3) for i in range(span)]
    constants = grid("q", scales if axis else scales[0], zeros if axis else zeros[0], kind)
    more = {} if axis is None else {"axis": axis}
    path = save_model(tmp_path / "m.onnx", there_and_back("x", "y", "q", **more), constants, opset=21)
    graph, weights = graph_from_onnx(path)
    assert operators(graph) == ["QuantizeLinear", "DequantizeLinear"]
    image = np.random.default_rng(1).integers(-40, 40, graph.input.shape).astype(np.float32) / 8
    image.ravel()[:4] = [1e9, -1e9, high, low]
    assert np.array_equal(run_reference(graph, weights, image), answer(path, image))


def test_a_convolution_of_codes_keeps_them(tmp_path: Path) -> None:
    """What is written again holds the weights in as many bytes, and says the same."""
    path = save_model(tmp_path / "m.onnx", CONVOLUTION, WEIGHTS)
    graph, weights = assert_understood(path)
    grids = {name: parameter.grid for name, parameter in graph.parameters.items()}
    assert grids["w"] == Grid(tuple(map(float, WEIGHTS["w.scale"])), (0,) * 4, 0, "int8")
    kept = grids["w"].codes_of(weights["w"])
    assert kept is not None and np.array_equal(kept, WEIGHTS["w.codes"])
    bias = grids["b"]
    assert bias is not None and bias.type == "int32"
    save_onnx(onnx_from_graph(graph, weights), tmp_path / "again.onnx")
    again, others = graph_from_onnx(tmp_path / "again.onnx")
    assert {name: parameter.grid for name, parameter in again.parameters.items()} == grids
    image = noise(graph.input.shape, seed=8)
    assert np.array_equal(run_reference(graph, weights, image), run_reference(again, others, image))
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(tmp_path / "again.onnx").graph.initializer}
    assert stored["w.codes"] == onnx.TensorProto.INT8 and stored["b.codes"] == onnx.TensorProto.INT32


def test_numbers_that_are_no_codes_any_more_are_written_as_floats(tmp_path: Path) -> None:
    graph, weights = graph_from_onnx(save_model(tmp_path / "m.onnx", CONVOLUTION, WEIGHTS))
    changed = {**weights, "w": weights["w"] * np.float32(1.1)}
    save_onnx(onnx_from_graph(graph, changed), tmp_path / "again.onnx")
    again, others = graph_from_onnx(tmp_path / "again.onnx")
    assert again.parameters["w"].grid is None and np.array_equal(others["w"], changed["w"])


def test_moves_and_pools_of_codes(tmp_path: Path) -> None:
    """Between the two stands what chooses among numbers: the border's value and the bounds are codes then."""
    kept = {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "border": np.array(3, np.uint8)}
    kept |= {"low": np.array(90, np.uint8), "high": np.array(200, np.uint8), **grid("q", 0.05, 120)}
    nodes = [
        codes("Quantize", "x", "a", "q"),
        node("MaxPool", ["a"], "b", kernel_shape=[2, 2], strides=[1, 2]),
        node("Pad", ["b", "pads", "border"], "c"),
        node("Clip", ["c", "low", "high"], "d"),
        node("Transpose", ["d"], "e", perm=[0, 2, 3, 1]),
        node("Concat", ["e", "e"], "f", axis=3),
        codes("Dequantize", "f", "y", "q"),
    ]
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, kept, opset=21))
    assert set(graph.codes.values()) == {"uint8"} and len(graph.codes) == len(graph.nodes) - 1


def test_a_type_without_a_zero_point(tmp_path: Path) -> None:
    """uint8, or what the node says from opset 21 on."""
    both = [node("QuantizeLinear", ["x", "s"], "q"), node("DequantizeLinear", ["q", "s"])]
    assert set(assert_understood(save_model(tmp_path / "a.onnx", both, {"s": scalar(0.1)}))[0].codes.values()) == {
        "uint8"
    }
    both[0] = node("QuantizeLinear", ["x", "s"], "q", output_dtype=int(onnx.TensorProto.INT16))
    path = save_model(tmp_path / "b.onnx", both, {"s": scalar(0.1)}, opset=21)
    assert set(assert_understood(path)[0].codes.values()) == {"int16"}


REFUSED: dict[str, tuple[list[onnx.NodeProto], dict[str, Array], int, str]] = {
    "arithmetic": (
        [codes("Quantize", "x", "a", "q"), node("Add", ["a", "a"], "b"), codes("Dequantize", "b", "y", "q")],
        grid("q", 0.1, 3), 17, "Add of whole numbers (uint8): expected a DequantizeLinear before it",
    ),
    "codes as the output": (
        [codes("Quantize", "x", "y", "q")], grid("q", 0.1, 3), 17,
        "output y: whole numbers of type uint8: expected those before or behind them",
    ),
    "no codes": (
        [codes("Dequantize", "x", "y", "q")], grid("q", 0.1, 3), 17, "reads numbers that no QuantizeLinear made",
    ),
    "another type": (
        [codes("Quantize", "x", "a", "q"), codes("Dequantize", "a", "y", "r")],
        {**grid("q", 0.1, 3), **grid("r", 0.1, 3, "int8")}, 17, "a zero point of type int8 for codes of type uint8",
    ),
    "a scale of nothing": (there_and_back("x", "y", "q"), grid("q", 0.0, 3), 17, "scale 0: expected numbers above 0"),
    "scales of no axis": (
        there_and_back("x", "y", "q", axis=1), grid("q", [0.1, 0.2], [3, 3]), 17,
        "2 scales along axis 1 of (1, 6, 9, 11): expected one, or one for each",
    ),
    "blocks": (
        there_and_back("x", "y", "q", axis=1, block_size=3), grid("q", [[0.1], [0.2]], [[3], [3]]), 21, "block_size",
    ),
    "a computed scale": (
        [node("ReduceMax", ["x"], "s", keepdims=0), node("QuantizeLinear", ["x", "s"], "a"),
         node("DequantizeLinear", ["a", "s"])],
        {}, 17, "its scale is computed by the network: expected a constant",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str, tmp_path: Path) -> None:
    nodes, constants, opset, message = REFUSED[case]
    assert message in refused(save_model(tmp_path / "m.onnx", nodes, constants, opset=opset))


def test_graphs_of_codes_are_checked() -> None:
    """Also one that no file said."""
    builder = GraphBuilder("g", Value("x", (1, 2, 3, 3)))
    q = {"scale": (0.1,), "zero_point": (3,), "axis": 0, "type": "uint8"}
    made = builder.add("QuantizeLinear", ["x"], "a", **q)  # type: ignore[arg-type]
    graph = builder.finish(builder.add("DequantizeLinear", [made], "y", **q))  # type: ignore[arg-type]
    assert graph.codes == {"a": "uint8"} and graph.macs == 0
    assert floats(0.1)[0] == pytest.approx(0.1)
