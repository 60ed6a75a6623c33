"""What is left of a foreign file's graph: constants folded, patterns found, what is read elsewhere kept."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign import KERNEL, Array, assert_understood, integers, node, operators, save_model, scalar
from networks import noise


def test_constants_around_a_convolution_are_folded(tmp_path: Path) -> None:
    """Padding zeros are not shifted: there the sum before it stays."""
    constants: dict[str, Array] = {"s": np.abs(noise((6, 1, 1))), "t": noise((1, 6, 1, 1)), "u": noise((4, 1, 1))}
    constants |= {"v": scalar(2.5), **KERNEL}
    before = [node("Mul", ["x", "s"], "m"), node("Add", ["m", "t"], "a")]
    after = [node("Sub", ["c", "u"], "d"), node("Div", ["d", "v"])]
    for pads, expected in (([0] * 4, ["Conv"]), ([1] * 4, ["Mul", "Add", "Conv"])):
        conv = node("Conv", ["a", "w", "b"], "c", pads=pads)
        graph, _ = assert_understood(save_model(tmp_path / "m.onnx", [*before, conv, *after], constants))
        assert operators(graph) == expected


def test_constants_before_grouped_convolutions(tmp_path: Path) -> None:
    constants = {"s": np.abs(noise((6, 1, 1))), "t": noise((1, 6, 1, 1)), "w": noise((6, 2, 3, 3))}
    nodes = [node("Mul", ["x", "s"], "m"), node("Add", ["m", "t"], "a"), node("Conv", ["a", "w"], group=3)]
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
    assert operators(graph) == ["Conv"]


def test_what_is_read_twice_is_not_folded(tmp_path: Path) -> None:
    constants = {**KERNEL, "t": noise((4, 1, 1))}
    nodes = [node("Conv", ["x", "w", "b"], "c"), node("Add", ["c", "t"], "a"), node("Mul", ["a", "c"])]
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
    assert operators(graph) == ["Conv", "Add", "Mul"]


def test_kernels_shared_by_convolutions_are_not_folded(tmp_path: Path) -> None:
    constants = {"w": noise((6, 6, 1, 1)), "t": noise((6, 1, 1))}
    nodes = [node("Conv", ["x", "w"], "c"), node("Mul", ["c", "t"], "a"), node("Conv", ["a", "w"])]
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
    assert operators(graph) == ["Conv", "Mul", "Conv"]


def transform_input(nodes: list[onnx.NodeProto], channels: int, permuted: bool = False) -> dict[str, Array]:
    """torchvision's Inception and GoogLeNet: each channel out, times and plus a number, joined again."""
    constants: dict[str, Array] = {"axis": integers(1)}
    for c in range(channels):
        constants |= {f"i{c}": np.array(c), f"s{c}": scalar(0.4 + c), f"t{c}": scalar(0.1 - c)}
        nodes += [node("Gather", ["x", f"i{c}"], f"g{c}", axis=1), node("Unsqueeze", [f"g{c}", "axis"], f"u{c}")]
        nodes += [node("Mul", [f"u{c}", f"s{c}"], f"m{c}"), node("Add", [f"m{c}", f"t{c}"], f"a{c}")]
    order = [1, 0, *range(2, channels)] if permuted else range(channels)
    nodes.append(node("Concat", [f"a{c}" for c in order], "joined", axis=1))
    return constants


def test_transformed_channels_are_folded_into_the_convolution(tmp_path: Path) -> None:
    nodes: list[onnx.NodeProto] = []
    constants = transform_input(nodes, 6)
    nodes.append(node("Conv", ["joined", "w", "b"]))
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, {**constants, **KERNEL}))
    assert operators(graph) == ["Conv"]


def test_channels_in_another_order_are_not_mistaken(tmp_path: Path) -> None:
    nodes: list[onnx.NodeProto] = []
    constants = transform_input(nodes, 6, permuted=True)
    nodes.append(node("Conv", ["joined", "w", "b"]))
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, {**constants, **KERNEL}))
    assert "Concat" in operators(graph)


def test_shapes_computed_by_the_file_are_constants(tmp_path: Path) -> None:
    """Shape -> Gather -> Unsqueeze -> Concat -> Reshape, as exporters write `x.view(x.size(0), -1)`."""
    constants = {"zero": np.array(0), "axis": integers(0), "rest": integers(-1), "w": noise((5, 594)) / np.float32(24)}
    nodes = [node("Shape", ["x"], "shape"), node("Gather", ["shape", "zero"], "n"),
             node("Unsqueeze", ["n", "axis"], "n1"), node("Concat", ["n1", "rest"], "to", axis=0),
             node("Relu", ["x"], "r"), node("Reshape", ["r", "to"], "f"),
             node("Gemm", ["f", "w"], transB=1)]  # fmt: skip
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants, shape=("N", 6, 9, 11)), batch=3)
    assert operators(graph) == ["Relu", "Flatten", "Gemm"]
    assert graph.batch == 3


def test_constant_nodes(tmp_path: Path) -> None:
    constant = onnx.helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(noise((6, 1, 1))))
    graph, _ = assert_understood(
        save_model(tmp_path / "m.onnx", [node("Relu", ["x"], "r"), constant, node("Mul", ["r", "c"])])
    )
    assert operators(graph) == ["Relu", "Mul"]


def test_channel_shuffle_and_split(tmp_path: Path) -> None:
    constants = {"five": integers(1, 3, 2, 9, 11), "four": integers(1, 6, 9, 11), "sizes": integers(2, 4)}
    nodes = [node("Reshape", ["x", "five"], "r"), node("Transpose", ["r"], "t", perm=[0, 2, 1, 3, 4]),
             node("Reshape", ["t", "four"], "s"), node("Split", ["s", "sizes"], "p q", axis=1),
             node("Sigmoid", ["q"], "g"), node("Concat", ["g", "p"], axis=-3)]  # fmt: skip
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
    assert operators(graph) == ["ChannelShuffle", "Slice", "Slice", "Sigmoid", "Concat"]


def test_squeeze_excite_over_rows_of_features(tmp_path: Path) -> None:
    """A pooled image that loses its axes and gets them back."""
    constants = {"spatial": integers(2, 3), "w": noise((6, 6, 1, 1))}
    nodes = [node("ReduceMean", ["x"], "m", axes=[2, 3], keepdims=0), node("Unsqueeze", ["m", "spatial"], "u"),
             node("Conv", ["u", "w"], "c"), node("Sigmoid", ["c"], "g"), node("Mul", ["x", "g"])]  # fmt: skip
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
    assert operators(graph) == ["GlobalAveragePool", "Conv", "Sigmoid", "Mul"]


@pytest.mark.parametrize("whole", ["GlobalAveragePool", "AveragePool", "ReduceMean", "GlobalMaxPool"])
def test_over_the_whole_image(whole: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"ReduceMean": {"axes": [2, 3]}, "AveragePool": {"kernel_shape": [9, 11]}}.get(whole, {})
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", [node(whole, ["x"], **more)]))
    assert operators(graph) == ["MaxPool" if whole == "GlobalMaxPool" else "GlobalAveragePool"]


def test_batch_norm_alone(tmp_path: Path) -> None:
    names = ["scale", "shift", "mean", "var"]
    constants = {name: np.abs(noise((6,), i)) + np.float32(0.3) for i, name in enumerate(names)}
    graph, _ = assert_understood(
        save_model(tmp_path / "m.onnx", [node("BatchNormalization", ["x", *names], epsilon=1e-3)], constants)
    )
    assert operators(graph) == ["BatchNormalization"]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Sigmoid", ["x"], "s"), node("Mul", ["s", "x"])], "Swish"),
        ([node("HardSigmoid", ["x"], "s", alpha=1 / 6, beta=0.5), node("Mul", ["x", "s"])], "HardSwish"),
        ([node("Add", ["x", "three"], "a"), node("Clip", ["a", "zero", "six"], "c"), node("Div", ["c", "six"])],
         "HardSigmoid"),
        ([node("Add", ["x", "three"], "a"), node("Clip", ["a", "zero", "six"], "c"), node("Mul", ["x", "c"], "m"),
          node("Mul", ["m", "sixth"])], "HardSwish"),
        ([node("Add", ["three", "x"], "a"), node("Clip", ["a", "zero", "six"], "c"), node("Div", ["c", "six"], "d"),
          node("Mul", ["d", "x"])], "HardSwish"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_activations_of_several_operators(nodes: list[onnx.NodeProto], expected: str, tmp_path: Path) -> None:
    constants = {"three": scalar(3), "zero": scalar(0), "six": scalar(6), "sixth": scalar(1 / 6)}
    used = {name: array for name, array in constants.items() if any(name in each.input for each in nodes)}
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, used))
    assert operators(graph) == [expected]


def test_patterns_whose_inside_is_read_elsewhere_stay(tmp_path: Path) -> None:
    nodes = [node("HardSigmoid", ["x"], "s", alpha=1 / 6, beta=0.5), node("Mul", ["x", "s"], "m")]
    nodes.append(node("Add", ["m", "s"]))
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes))
    assert operators(graph) == ["HardSigmoid", "Mul", "Add"]


def test_zeros_before_pooling(tmp_path: Path) -> None:
    """TensorFlow's way; where something may be below zero they stay beside the maximum."""
    pads = {"pads": integers(0, 0, 1, 1, 0, 0, 1, 1)}
    pool = {"kernel_shape": [3, 3], "strides": [2, 2]}
    padded = [node("Relu", ["x"], "r"), node("Pad", ["r", "pads"], "p")]
    for op_type in ("MaxPool", "AveragePool"):
        assert_understood(save_model(tmp_path / "m.onnx", [*padded, node(op_type, ["p"], **pool)], pads))
    path = save_model(tmp_path / "m.onnx", [node("Pad", ["x", "pads"], "p"), node("MaxPool", ["p"], **pool)], pads)
    graph, _ = assert_understood(path)
    assert operators(graph) == ["Pad", "MaxPool"]


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize(("size", "own"), [(6, True), (8, False)])
def test_zeros_before_a_mean_with_pads_of_its_own(size: int, own: bool, counted: int, tmp_path: Path) -> None:
    """A row and a column of zeros: 7x7 in steps of 3 needs more, which the mean may not count: they stay beside it; 9x9
    does not."""
    pool = node("AveragePool", ["p"], kernel_shape=[3, 3], strides=[3, 3], auto_pad="SAME_UPPER",
                count_include_pad=counted)  # fmt: skip
    pads = {"pads": integers(0, 0, 0, 0, 0, 0, 1, 1)}
    path = save_model(tmp_path / "m.onnx", [node("Pad", ["x", "pads"], "p"), pool], pads, shape=(1, 6, size, size))
    graph, _ = assert_understood(path)
    assert operators(graph) == (["Pad", "AveragePool"] if own and not counted else ["AveragePool"])


def test_what_the_output_does_not_need_is_left_out(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", ["x"], "aux"), node("Conv", ["x", "w", "b"], "y")]
    graph, weights = assert_understood(save_model(tmp_path / "m.onnx", nodes, {**KERNEL, "idle": noise((3,))}))
    assert operators(graph) == ["Conv"] and set(weights) == {"w", "b"}


def test_names_that_differ_in_a_dot_are_two(tmp_path: Path) -> None:
    constants = {"a.b": noise((6, 6, 1, 1)), "a_b": noise((6, 6, 1, 1), 1)}
    nodes = [node("Conv", ["x", "a.b"], "/c"), node("Relu", ["/c"], "c"), node("Conv", ["c", "a_b"])]
    assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))


def test_two_readings_of_one_weight(tmp_path: Path) -> None:
    """Transposed for one layer and not for the other."""
    constants = {"shape": integers(1, 6), "w": noise((6, 6))}
    nodes = [node("GlobalAveragePool", ["x"], "g"), node("Reshape", ["g", "shape"], "f"),
             node("Gemm", ["f", "w"], "h", transB=0), node("Gemm", ["h", "w"], transB=1)]  # fmt: skip
    assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
