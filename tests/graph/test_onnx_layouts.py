"""Axes that move: images that come channels last, transpositions between axes of one size, open sizes, nodes out of
order, branches that a constant decides."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign import answer, assert_understood, floats, integers, node, operators, refused, save_model
from networks import noise, relative_error
from onnx import TensorProto, helper

from effgen.errors import GraphError
from effgen.graph.onnx import graph_from_file, graph_from_onnx, open_onnx
from effgen.graph.reference import run_reference
from effgen.graph.sizes import Sizes, sizes_from_text


@pytest.mark.parametrize("rescaled", [False, True])
def test_images_whose_channels_come_last(rescaled: bool, tmp_path: Path) -> None:
    """As TensorFlow's exporter writes Keras networks."""
    before = (
        [node("Mul", ["x", "s"], "m"), node("Sub", ["m", "c"], "n")] if rescaled else [node("Identity", ["x"], "n")]
    )
    nodes = [*before, node("Transpose", ["n"], "t", perm=[0, 3, 1, 2]), node("Conv", ["t", "w"])]
    constants = {"s": floats(0.5), "c": noise((3,)), "w": noise((4, 3, 2, 2))}
    path = save_model(tmp_path / "m.onnx", nodes, constants, shape=(1, 6, 5, 3))
    graph, weights = graph_from_onnx(path)
    assert graph.input.shape == (1, 3, 6, 5) and operators(graph)[-1] == "Conv"
    image = noise((1, 3, 6, 5), seed=4)
    expected = answer(path, np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
    assert relative_error(run_reference(graph, weights, image), expected) < 1e-6


@pytest.mark.parametrize("size", [(6, 6), (1, 6), (6, 1), (6, 9)])
def test_transpositions_between_layers_go_away(size: tuple[int, int], tmp_path: Path) -> None:
    """Of axes of one size, too: which is which is a matter of axes."""
    nodes = [node("Conv", ["x", "w"], "a"), node("Transpose", ["a"], "b", perm=[0, 2, 3, 1]), node("Relu", ["b"], "c"),
             node("Add", ["c", "k"], "d"), node("Transpose", ["d"], "e", perm=[0, 3, 1, 2]),
             node("Conv", ["e", "v"])]  # fmt: skip
    constants = {"w": noise((6, 6, 1, 1)), "v": noise((6, 6, 1, 1), 1), "k": noise((6,))}
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants, shape=(1, 6, *size)))
    assert operators(graph) == ["Conv", "Relu", "Conv"]


def test_rows_of_any_rank_are_linear_layers(tmp_path: Path) -> None:
    """As transformers have them: MatMul, a bias and Gelu on (batch, rows, features)."""
    nodes = [node("Reshape", ["x", "s"], "a"), node("MatMul", ["a", "w"], "b"), node("Add", ["b", "k"], "c"),
             node("Div", ["c", "two"], "d"), node("Erf", ["d"], "e"), node("Add", ["e", "one"], "f"),
             node("Mul", ["c", "f"], "g"), node("Mul", ["g", "half"], "h"), node("MatMul", ["h", "v"])]  # fmt: skip
    constants = {"s": integers(1, 54, 11), "w": noise((11, 7)), "k": noise((7,)), "v": noise((7, 5)),
                 "two": floats(2**0.5), "one": floats(1), "half": floats(0.5)}  # fmt: skip
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
    assert [name for name in operators(graph) if name != "Reshape"] == ["Gemm", "Gelu", "Gemm"]


def test_layer_normalisation_written_out(tmp_path: Path) -> None:
    nodes = [node("Transpose", ["x"], "t", perm=[0, 2, 3, 1]), node("ReduceMean", ["t"], "m", axes=[-1]),
             node("Sub", ["t", "m"], "d"), node("Pow", ["d", "two"], "q"), node("ReduceMean", ["q"], "v", axes=[-1]),
             node("Add", ["v", "eps"], "r"), node("Sqrt", ["r"], "s"), node("Div", ["d", "s"], "n"),
             node("Mul", ["n", "g"], "o"), node("Add", ["o", "b"])]  # fmt: skip
    constants = {"two": floats(2), "eps": floats(1e-6), "g": noise((6,)), "b": noise((6,))}
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
    assert operators(graph) == ["Transpose", "LayerNormalization"]


@pytest.mark.parametrize("steps", ["one after another", "flattened", "channels last"])
def test_means_over_the_image_in_steps(steps: str, tmp_path: Path) -> None:
    nodes = {
        "one after another": [node("ReduceMean", ["x"], "a", axes=[3]), node("ReduceMean", ["a"], axes=[2])],
        "flattened": [node("Reshape", ["x", "s"], "a"), node("ReduceMean", ["a"], axes=[-1], keepdims=0)],
        "channels last": [node("Transpose", ["x"], "a", perm=[0, 2, 3, 1]),
                          node("ReduceMean", ["a"], axes=[1, 2], keepdims=0)],
    }[steps]  # fmt: skip
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, {"s": integers(1, 6, 99)}))
    assert operators(graph)[0] == "GlobalAveragePool"


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], "a"), node("Relu", ["a"], "b"), node("Add", ["a", "b"])]
    path = save_model(tmp_path / "m.onnx", nodes, {"w": noise((6, 6, 1, 1))})
    expected, image = answer(path, noise((1, 6, 9, 11))), noise((1, 6, 9, 11))
    model = onnx.load(path)
    turned = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(turned)
    onnx.save(model, path)
    assert relative_error(run_reference(*graph_from_onnx(path), image), expected) < 1e-6


@pytest.mark.parametrize("condition", [True, False])
def test_a_constant_condition_takes_its_branch(condition: bool, tmp_path: Path) -> None:
    """As exporters write the squeezing of an axis that may be 1; names inside may be those outside."""

    def branch(op_type: str) -> onnx.GraphProto:
        output = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
        return helper.make_graph([node(op_type, ["a"], "r")], op_type, [], [output])

    nodes = [node("Relu", ["x"], "a"), node("If", ["c"], "r", then_branch=branch("Neg"), else_branch=branch("Exp")),
             node("Sigmoid", ["r"])]  # fmt: skip
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, {"c": np.array(condition)}))
    assert operators(graph) == ["Relu", "Neg" if condition else "Exp", "Sigmoid"]


def test_sizes_that_a_file_leaves_open(tmp_path: Path) -> None:
    nodes = [node("Shape", ["x"], "s"), node("Reshape", ["x", "s"], "r"), node("Relu", ["r"])]
    path = save_model(tmp_path / "m.onnx", nodes, shape=("N", 3, "H", "W"))
    for sizes in (sizes_from_text("x:1,3,4,5"), sizes_from_text("1x3x4x5"), Sizes(image=(4, 5))):
        graph, _ = graph_from_file(open_onnx(path, sizes=sizes))
        assert graph.input.shape == (1, 3, 4, 5) and operators(graph) == ["Relu"]
    assert open_onnx(path, batch=2, sizes=Sizes(image=(4, 5))).input.shape == (2, 3, 4, 5)
    assert "give it by --input-shape x:1,3,224,224" in refused(path)
    for text, why in (("x:1,4,4,5", "axis 1 is 3, not 4"), ("y:1,3,4,5", "the input is x"), ("1,3,4", "the file's is")):
        with pytest.raises(GraphError, match=why):
            open_onnx(path, sizes=sizes_from_text(text))
    for text in ("", "x:", "a,b", "1,3,0,5", "1,3,-1,5"):
        with pytest.raises(GraphError, match="--input-shape"):
            sizes_from_text(text)


def test_constants_within_a_budget(tmp_path: Path) -> None:
    """What would take more than a gigabyte is named, and not computed."""
    nodes = [node("Expand", ["one", "s"], "e"), node("ReduceSum", ["e"], "t"), node("Add", ["x", "t"])]
    path = save_model(tmp_path / "m.onnx", nodes, {"one": floats(1), "s": integers(2**30)})
    assert "Expand" in refused(path)
