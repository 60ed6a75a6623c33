"""Files that others export: each operator and each pattern means to the Graph what it means to onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign import Array, answer, assert_understood, node, operators, save_model
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from networks import noise, relative_error
from onnx import TensorProto

from effgen.errors import GraphError
from effgen.graph.onnx import graph_from_onnx
from effgen.graph.onnx.read import supported
from effgen.graph.ops import OPS
from effgen.graph.reference import run_reference

KERNEL = {"w": noise((4, 6, 3, 3)), "b": noise((4,))}


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def integers(*values: int) -> Array:
    return np.array(values, np.int64)


def scalar(value: float) -> Array:
    return np.array(value, np.float32)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"dilations": [2, 3], "pads": [2, 1, 0, 3]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID", "strides": [2, 1]},
    ],
    ids=str,
)
def test_conv(attributes: dict[str, Any], tmp_path: Path) -> None:
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", [node("Conv", ["x", "w", "b"], **attributes)], KERNEL))
    assert operators(graph) == ["Conv"]


def test_grouped_conv_without_a_bias(tmp_path: Path) -> None:
    kernel = {"w": noise((6, 2, 3, 3))}
    assert_understood(save_model(tmp_path / "m.onnx", [node("Conv", ["x", "w"], group=3, pads=[1] * 4)], kernel))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    op_type=st.sampled_from(["MaxPool", "AveragePool"]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    ceil=st.integers(0, 1),
    counted=st.integers(0, 1),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_pooling(
    tmp_path: Path, op_type: str, kernel: Any, strides: Any, pads: Any, ceil: int, counted: int, dilations: Any
) -> None:
    pads = [min(pad, kernel[i % 2] - 1) for i, pad in enumerate(pads)]
    more: Any = {"dilations": dilations} if op_type == "MaxPool" else {"count_include_pad": counted}
    pool = node(op_type, ["x"], kernel_shape=kernel, strides=strides, pads=pads, ceil_mode=ceil, **more)
    relu = node("LeakyRelu", ["x0"], alpha=0.3)
    pool.output[0] = "x0"
    path = save_model(tmp_path / "m.onnx", [pool, relu])
    try:
        graph_from_onnx(path)
    except GraphError as error:  # what ONNX's own versions do not agree on
        assert "ceil_mode reaches past the padding along one axis and behind" in str(error)
        reject()
    assert_understood(path)


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_pooling_padded_automatically(op_type: str, auto_pad: str, tmp_path: Path) -> None:
    pool = node(op_type, ["x"], kernel_shape=[3, 2], strides=[2, 2], auto_pad=auto_pad)
    assert_understood(save_model(tmp_path / "m.onnx", [pool]))


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 20])
def test_what_moved_from_attributes_to_inputs(opset: int, tmp_path: Path) -> None:
    """Clip at 11, Squeeze and Unsqueeze at 13, ReduceMean at 18; Pad and Slice at 10 and 11."""
    constants: dict[str, Array] = {**KERNEL, "low": scalar(-0.5), "high": scalar(1.5), "spatial": integers(2, 3)}
    constants |= {"pads": integers(0, 0, 1, 2, 0, 0, 0, 1), "from": integers(1), "to": integers(4), "axis": integers(1)}
    inputs = opset >= 11
    nodes = [
        node("Pad", ["x", "pads"], "padded") if inputs else node("Pad", ["x"], "padded", pads=[*constants["pads"]]),
        node("Conv", ["padded", "w", "b"], "conv"),
        node("Clip", ["conv", "low", "high"], "clip") if inputs else node("Clip", ["conv"], "clip", min=-0.5, max=1.5),
        node("Slice", ["clip", "from", "to", "axis"], "slice")
        if inputs
        else node("Slice", ["clip"], "slice", starts=[1], ends=[4], axes=[1]),
        node("ReduceMean", ["slice", "spatial"], "mean", keepdims=1)
        if opset >= 18
        else node("ReduceMean", ["slice"], "mean", axes=[-2, -1], keepdims=1),
        node("Squeeze", ["mean", "spatial"], "y") if opset >= 13 else node("Squeeze", ["mean"], "y", axes=[2, 3]),
    ]
    used = {name for each in nodes for name in each.input}
    kept = {name: array for name, array in constants.items() if name in used}
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, kept, opset=opset))
    assert operators(graph) == ["Conv", "Clip", "Slice", "GlobalAveragePool", "Flatten"]


@pytest.mark.parametrize("value", [scalar(0), floats(0), None], ids=["()", "(1,)", "left out"])
def test_pad_with_a_value_of_zero(value: Array | None, tmp_path: Path) -> None:
    constants = {**KERNEL, "p": integers(0, 0, 1, 0, 0, 0, 1, 2)}
    if value is not None:
        constants["v"] = value
    pad = node("Pad", ["x", "p", "" if value is None else "v"], "padded")
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", [pad, node("Conv", ["padded", "w", "b"])], constants))
    assert operators(graph) == ["Conv"]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [(("", ""), []), (("zero", ""), ["Relu"]), (("zero", "six"), ["Clip"]), (("", "six"), ["Clip"])],
)
def test_clip_with_some_bounds(bounds: tuple[str, str], expected: list[str], tmp_path: Path) -> None:
    used = {name: array for name, array in {"zero": scalar(0), "six": scalar(6)}.items() if name in bounds}
    nodes = [node("Clip", ["x", *bounds], "c"), node("Sigmoid", ["c"])]
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, used))
    assert operators(graph) == [*expected, "Sigmoid"]


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (1,), (6, 1, 1), (1, 6, 1, 1), (1, 6, 9, 11), (9, 1)], ids=str)
@pytest.mark.parametrize("constant_first", [False, True])
def test_arithmetic_with_constants(op_type: str, shape: Any, constant_first: bool, tmp_path: Path) -> None:
    constant = np.abs(noise(shape or (1,)).reshape(shape)) + np.float32(0.5)
    operands = ["c", "s"] if constant_first else ["s", "c"]
    nodes = [node("Sigmoid", ["x"], "s"), node(op_type, operands)]
    path = save_model(tmp_path / "m.onnx", nodes, {"c": constant})
    if op_type == "Div" and constant_first:
        with pytest.raises(GraphError, match=r"Div y: expected a division by a constant other than 0$"):
            graph_from_onnx(path)
        return
    graph, _ = assert_understood(path)
    assert operators(graph)[0] == "Sigmoid" and set(operators(graph)[1:]) <= {"Add", "Mul"}


def test_arithmetic_of_two_tensors(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", ["x"], "s"), node("Relu", ["x"], "r"), node("Sub", ["s", "r"])]
    assert_understood(save_model(tmp_path / "m.onnx", nodes))


def test_adding_nothing_is_left_out(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", ["x"], "s"), node("Add", ["s", "zero"], "a"), node("Mul", ["one", "a"], "m"),
             node("Identity", ["m"], "i"), node("Dropout", ["i"], "d"), node("Cast", ["d"], "y", to=1)]  # fmt: skip
    path = save_model(tmp_path / "m.onnx", nodes, {"zero": scalar(0), "one": floats(1)})
    graph, _ = assert_understood(path)
    assert operators(graph) == ["Sigmoid"] and graph.output == "y"


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [(), (5,), (1, 5), (1,)], ids=str)
def test_gemm(transposed: int, bias: Any, tmp_path: Path) -> None:
    weight = noise((5, 594) if transposed else (594, 5)) / np.float32(24)
    nodes = [node("Flatten", ["x"], "f"), node("Gemm", ["f", "w", "b"], alpha=0.5, beta=2.0, transB=transposed)]
    constants = {"w": weight, "b": noise(bias or (1,)).reshape(bias)}
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
    assert operators(graph) == ["Flatten", "Gemm"]


def test_matmul_and_a_bias_are_a_linear_layer(tmp_path: Path) -> None:
    nodes = [node("Reshape", ["x", "shape"], "f"), node("MatMul", ["f", "w"], "m"), node("Add", ["b", "m"], "a"),
             node("Softmax", ["a"], axis=1)]  # fmt: skip
    constants = {"w": noise((594, 5)) / np.float32(24), "b": noise((5,)), "shape": integers(0, -1)}
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", nodes, constants))
    assert operators(graph) == ["Flatten", "Gemm", "Softmax"]


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
    """TensorFlow's way; a maximum only where nothing is below zero."""
    pads = {"pads": integers(0, 0, 1, 1, 0, 0, 1, 1)}
    pool = {"kernel_shape": [3, 3], "strides": [2, 2]}
    padded = [node("Relu", ["x"], "r"), node("Pad", ["r", "pads"], "p")]
    for op_type in ("MaxPool", "AveragePool"):
        assert_understood(save_model(tmp_path / "m.onnx", [*padded, node(op_type, ["p"], **pool)], pads))
    path = save_model(tmp_path / "m.onnx", [node("Pad", ["x", "pads"], "p"), node("MaxPool", ["p"], **pool)], pads)
    with pytest.raises(GraphError, match="zeros around an image that may be negative"):
        graph_from_onnx(path)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize(("size", "own"), [(6, True), (8, False)])
def test_zeros_before_a_mean_with_pads_of_its_own(size: int, own: bool, counted: int, tmp_path: Path) -> None:
    """A row and a column of zeros: 7x7 in steps of 3 needs more, which the mean may not count; 9x9 does not."""
    pool = node("AveragePool", ["p"], kernel_shape=[3, 3], strides=[3, 3], auto_pad="SAME_UPPER",
                count_include_pad=counted)  # fmt: skip
    pads = {"pads": integers(0, 0, 0, 0, 0, 0, 1, 1)}
    path = save_model(tmp_path / "m.onnx", [node("Pad", ["x", "pads"], "p"), pool], pads, shape=(1, 6, size, size))
    if own and not counted:
        assert "AveragePool y: zeros around the image, and pads that are not counted" in refused(path)
    else:
        assert_understood(path)


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


def refused(path: Path, batch: int | None = None) -> str:
    with pytest.raises(GraphError) as caught:
        graph_from_onnx(path, batch)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


def test_all_unsupported_operators_are_named_at_once(tmp_path: Path) -> None:
    """Also behind something else that is refused; not what only follows from them."""
    nodes = [node("Sin", ["x"], "a"), node("Conv", ["a", "x"], "b"), node("Reshape", ["x", "c"], "d"),
             node("Shape", ["a"], "s"), node("Gather", ["s", "zero"], "n"), node("Mul", ["d", "n"], "e"),
             node("Gelu", ["x"], "f", domain="com.microsoft"), node("Tanh", ["x"], "y")]  # fmt: skip
    path = save_model(tmp_path / "m.onnx", nodes, {"c": integers(7, 7), "zero": np.array(0)})
    line = refused(path)
    assert line.startswith("operators that are not supported: Sin, Tanh, com.microsoft.Gelu; supported: Add, ")


REFUSED = {
    "input Conv": ([node("Conv", ["x", "x"])], {}, "Conv y: its weight is computed by the network: expected a"),
    "1-D Conv": ([node("Conv", ["x", "w"])], {"w": noise((2, 6, 3))}, "expected a convolution of images"),
    "weights of another type": ([node("Conv", ["x", "w"])], {"w": np.ones((2, 6, 1, 1))}, "w: weights of type DOUBLE"),
    "Pad read by Relu": (
        [node("Pad", ["x", "p"], "a"), node("Relu", ["a"])], {"p": integers(0, 0, 1, 1, 0, 0, 1, 1)},
        "Relu y: Pad to (1, 6, 11, 13) is read by an operator that cannot take it",
    ),
    "Pad by ones": (
        [node("Pad", ["x", "p", "one"], "a"), node("Conv", ["a", "w"])],
        {"p": integers(0, 0, 1, 1, 0, 0, 1, 1), "one": scalar(1), "w": noise((2, 6, 1, 1))},
        "value 1: expected zeros around an image",
    ),
    "Pad by two numbers": (
        [node("Pad", ["x", "p", "v"], "a"), node("Conv", ["a", "w"])],
        {"p": integers(0, 0, 1, 1, 0, 0, 1, 1), "v": floats(0, 0), "w": noise((2, 6, 1, 1))},
        "Pad a: its value of shape (2,): expected one number",
    ),
    "Concat of rows": ([node("Concat", ["x", "x"], axis=2)], {}, "Concat: axis = 2: expected 1, channels"),
    "Transpose": ([node("Transpose", ["x"], perm=[0, 2, 3, 1])], {}, "perm (0, 2, 3, 1) of (1, 6, 9, 11)"),
    "Slice of rows": (
        [node("Slice", ["x", "a", "b", "c"])], {"a": integers(0), "b": integers(3), "c": integers(2)},
        "axis 2, 0 to 3 in steps of 1 of (1, 6, 9, 11): expected channels, step 1",
    ),
    "Div of tensors": ([node("Div", ["x", "x"])], {}, "expected a division by a constant other than 0"),
    "ReduceMean of channels": ([node("ReduceMean", ["x"], axes=[1])], {}, "axes (1,) of 4: expected height and width"),
    "training": (
        [node("BatchNormalization", ["x", "c", "c", "c", "c"], training_mode=1)], {"c": np.ones(6, np.float32)},
        "training_mode = 1: expected a model exported for inference",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str, tmp_path: Path) -> None:
    nodes, constants, text = REFUSED[case]
    assert text in refused(save_model(tmp_path / "m.onnx", nodes, constants))


MALFORMED = {
    "zeros of another size": ([node("Add", ["x", "c"])], {"c": np.zeros((5, 1, 1), np.float32)}, "Add y: "),
    "ones of another size": ([node("Mul", ["c", "x"])], {"c": np.ones((1, 6, 4, 1), np.float32)}, "Mul y: "),
    "a 0 beyond the axes": (
        [node("Reshape", ["x", "s"])], {"s": integers(1, -1, 1, 1, 0)},
        "Reshape y: malformed: tuple index out of range; expected what ONNX says of Reshape",
    ),
    "one dilation": (
        [node("Conv", ["x", "w"], dilations=[1])], {"w": noise((2, 6, 3, 3))},
        "Conv y: malformed: zip() argument 2 is shorter than argument 1; expected what ONNX says of Conv",
    ),
    "two pads": ([node("Conv", ["x", "w"], pads=[1, 1])], {"w": noise((2, 6, 3, 3))}, "Conv y: malformed: zip() "),
    "one stride": ([node("MaxPool", ["x"], kernel_shape=[2, 2], strides=[2])], {}, "MaxPool y: "),
    "strides that are a number": ([node("MaxPool", ["x"], kernel_shape=[2, 2], strides=2)], {}, "MaxPool y: malformed"),
    "strides of 0": (
        [node("MaxPool", ["x"], kernel_shape=[2, 2], strides=[0, 0], auto_pad="SAME_UPPER")], {}, "MaxPool y: ",
    ),
    "no kernel_shape": (
        [node("MaxPool", ["x"])], {},
        "MaxPool y: malformed: 'kernel_shape' is missing; expected what ONNX says of MaxPool",
    ),
    "no axis": ([node("Concat", ["x", "x"])], {}, "Concat y: malformed: 'axis' is missing; expected"),
    "no type": ([node("Cast", ["x"])], {}, "Cast y: malformed: 'to' is missing; expected"),
    "no weight": ([node("Conv", ["x"])], {}, "Conv y: malformed: list index out of range; expected"),
    "no input": ([node("Relu", [])], {}, "Relu y: malformed: list index out of range; expected"),
    "the shape of nothing": ([node("Shape", [])], {}, "operators that are not supported: Shape"),
    "an axis twice": (
        [node("GlobalAveragePool", ["x"], "g"), node("Unsqueeze", ["g", "a"])], {"a": integers(1, 1)},
        "Unsqueeze y: axes (1, 1): expected each once",
    ),
    "too few sizes": (
        [node("Split", ["x", "s"], "y z", axis=1)], {"s": integers(6)},
        "Split y: malformed: zip() argument 2 is longer than argument 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    """What onnxruntime refuses too."""
    nodes, constants, text = MALFORMED[case]
    path = save_model(tmp_path / "m.onnx", nodes, constants)
    assert text in refused(path)
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        answer(path, noise((1, 6, 9, 11)))


def test_a_constant_of_too_few_bytes_is_refused(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", [node("Conv", ["x", "w", "b"])], KERNEL)
    model = onnx.load(path)
    model.graph.initializer[1].raw_data = b"1234"
    onnx.save(model, path)
    assert refused(path).startswith("constant b: malformed: ")
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        answer(path, noise((1, 6, 9, 11)))


def test_no_channels_are_refused(tmp_path: Path) -> None:
    """An image of none, which only onnxruntime can make."""
    path = save_model(tmp_path / "m.onnx", [node("Gather", ["x", "i"], axis=1)], {"i": integers()})
    assert answer(path, noise((1, 6, 9, 11))).shape == (1, 0, 9, 11)
    assert refused(path) == "Gather y: indices [] of axis 1: expected channels that stand side by side"


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_batch_norm_with_the_outputs_of_training(opset: int, tmp_path: Path) -> None:
    """Before opset 14 nothing else tells training."""
    outputs = "y m v" if opset == 17 else "y m v sm sv"
    norm = node("BatchNormalization", ["x", "c", "c", "c", "c"], outputs)
    path = save_model(tmp_path / "m.onnx", [norm], {"c": np.ones(6, np.float32)}, opset=opset)
    found = f"BatchNormalization y: {len(outputs.split())} outputs, as in training: expected a model exported for"
    assert refused(path).startswith(found)
    del norm.output[1:]
    assert_understood(save_model(path, [norm], {"c": np.full(6, 0.5, np.float32)}, opset=opset))


def test_dropout_in_training(tmp_path: Path) -> None:
    nodes, path = [node("Relu", ["x"], "r"), node("Dropout", ["r", "half", "t"])], tmp_path / "m.onnx"
    constants: dict[str, Array] = {"half": scalar(0.5)}
    graph, _ = assert_understood(save_model(path, nodes, {**constants, "t": np.array(False)}))
    assert operators(graph) == ["Relu"]
    save_model(path, nodes, {**constants, "t": np.array(True)})
    image = np.abs(noise((1, 6, 9, 11))) + np.float32(0.1)
    assert not answer(path, image).all()  # it does drop
    assert refused(path) == "Dropout y: training_mode is true: expected a model exported for inference"
    cast = node("Cast", ["x"], "t", to=TensorProto.BOOL)
    assert "Cast t: to another type" in refused(save_model(path, [cast, *nodes], constants))
    nodes[1].input[2] = "x"
    assert "training_mode is computed by the network" in refused(save_model(path, nodes, constants))


def test_files_of_another_kind(tmp_path: Path) -> None:
    relu, path = node("Relu", ["x"]), tmp_path / "m.onnx"
    assert "opset 8: expected 9 to" in refused(save_model(path, [relu], opset=8))
    two = [node("Relu", ["x"]), node("Sigmoid", ["x"], "z")]
    assert refused(save_model(path, two, outputs=("y", "z"))) == "expected one output, found y, z"
    half = save_model(path, [relu], dtype=TensorProto.FLOAT16)
    assert refused(half).startswith("input x is of type FLOAT16: expected FLOAT; export the model in float32")
    line = refused(save_model(path, [relu], shape=("N", 3, "H", 8)))
    assert line.startswith("input x: found shape (N, 3, H, 8): axis 2 is H, expected a static shape; only the batch")
    line = refused(save_model(path, [relu], shape=(2, 3, 4, 4)), batch=3)
    assert line == "input x: the file's batch is 2, not 3; leave out --batch or export again"


def test_batch_of_the_file_and_of_the_user(tmp_path: Path) -> None:
    open_batch = save_model(tmp_path / "open.onnx", [node("Relu", ["x"])], shape=("batch", 3, 4, 5))
    assert graph_from_onnx(open_batch)[0].batch == 1
    assert graph_from_onnx(open_batch, 4)[0].batch == 4
    fixed = save_model(tmp_path / "fixed.onnx", [node("Relu", ["x"])], shape=(2, 3, 4, 5))
    assert graph_from_onnx(fixed)[0].batch == graph_from_onnx(fixed, 2)[0].batch == 2


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    body = onnx.helper.make_function(
        "mine", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], "b")], [onnx.helper.make_opsetid("", 17)]
    )
    model = onnx.load(save_model(tmp_path / "m.onnx", [node("Twice", ["x"], domain="mine")]))
    model.functions.append(body)
    model.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    onnx.save(model, tmp_path / "m.onnx")
    graph, weights = graph_from_onnx(tmp_path / "m.onnx")
    image = noise(graph.input.shape)
    assert relative_error(run_reference(graph, weights, image), answer(tmp_path / "m.onnx", image)) == 0


def test_the_documentation_lists_every_operator() -> None:
    """docs/onnx.md: its table is the list that a refusal prints, in the same order."""
    text = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text()
    table = text.split("| operator | what of it |")[1].split("\n\n")[0]
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == supported()


def test_every_operator_of_the_graph_can_be_read() -> None:
    made_of_several = {"ChannelShuffle"}
    assert OPS.keys() - made_of_several <= set(supported())
