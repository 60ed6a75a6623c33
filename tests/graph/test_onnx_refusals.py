"""ONNX files that cannot be read are refused in one line that says why."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from checkpoint_files import FOREIGN
from foreign import (
    KERNEL,
    Array,
    answer,
    assert_understood,
    floats,
    integers,
    node,
    operators,
    refused,
    save_model,
    scalar,
)
from networks import noise
from onnx import TensorProto

from effgen.errors import GraphError
from effgen.graph.onnx import open_onnx


def test_all_unsupported_operators_are_named_at_once(tmp_path: Path) -> None:
    """Also behind something else that is refused; not what only follows from them."""
    nodes = [node("Erfinv", ["x"], "a"), node("Conv", ["a", "x"], "b"), node("Reshape", ["x", "c"], "d"),
             node("Shape", ["a"], "s"), node("Gather", ["s", "zero"], "n"), node("Mul", ["d", "n"], "e"),
             node("Gelu", ["x"], "f", domain="com.microsoft"), node("ArgMax", ["x"], "y")]  # fmt: skip
    path = save_model(tmp_path / "m.onnx", nodes, {"c": integers(7, 7), "zero": np.array(0)})
    line = refused(path)
    hint = "ArgMax (leave it out: the numbers before it are the network's output)"
    assert line.startswith(f"operators that are not supported: {hint}, Erfinv, com.microsoft.Gelu; supported: Abs, ")


@pytest.mark.parametrize(("data", "message"), FOREIGN, ids=[message[:20] for _, message in FOREIGN])
def test_files_that_are_no_models(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(GraphError, match=re.escape(f"{tmp_path / 'm.onnx'}: is {message}")):
        open_onnx(tmp_path / "m.onnx")


def test_a_checkpoint_instead_of_a_model(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "m.onnx")
    with pytest.raises(GraphError, match=r"is a PyTorch checkpoint: give it as --weights, beside --spec and --phi$"):
        open_onnx(tmp_path / "m.onnx")


REFUSED = {
    "input Conv": ([node("Conv", ["x", "x"])], {}, "Conv y: its weight is computed by the network: expected a"),
    "a kernel of rows": ([node("Conv", ["x", "w"])], {"w": noise((2, 6, 3))}, "expected a convolution of images"),
    "weights of another type": (
        [node("Conv", ["x", "w"])], {"w": np.ones((2, 6, 1, 1), np.int64)}, "w: weights of type INT64",
    ),
    "Pad of more than there is": (
        [node("Pad", ["x", "p"], mode="reflect")], {"p": integers(0, 0, 9, 1, 0, 0, 1, 1)},
        "a mirror has no more than 8 to put beside axis 2",
    ),
    "Pad of all away": (
        [node("Pad", ["x", "p"])], {"p": integers(0, 0, -5, 0, 0, 0, -4, 0)}, "nothing is left",
    ),
    "Pad by two numbers": (
        [node("Pad", ["x", "p", "v"], "a"), node("Conv", ["a", "w"])],
        {"p": integers(0, 0, 1, 1, 0, 0, 1, 1), "v": floats(0, 0), "w": noise((2, 6, 1, 1))},
        "Pad a: its value of shape (2,): expected one number",
    ),
    "Transpose": ([node("Transpose", ["x"], perm=[0, 2, 3, 2])], {}, "Transpose: perm (0, 2, 3, 2) of (1, 6, 9, 11)"),
    "Slice of nothing": (
        [node("Slice", ["x", "a", "b", "c"])], {"a": integers(3), "b": integers(3), "c": integers(2)},
        "axis 2, 3 to 3 in steps of 1 of (1, 6, 9, 11): nothing is left",
    ),
    "Resize of channels": (
        [node("Resize", ["x", "", "s"])], {"s": floats(1, 2, 2, 2)}, "axes [1, 2, 3] of (1, 6, 9, 11): expected height",
    ),
    "corners of broken sizes": (
        [node("Resize", ["x", "", "s"], coordinate_transformation_mode="align_corners", mode="linear")],
        {"s": floats(1, 1, 0.6, 0.6)}, "align_corners of (1, 6, 9, 11) by scales that give no whole sizes",
    ),
    "where the maxima stood": (
        [node("MaxPool", ["x"], "m i", kernel_shape=[3, 3]), node("Relu", ["i"])], {}, "its second output, where",
    ),
    "a volume": ([node("Reshape", ["x", "s"], "v"), node("MaxPool", ["v"], kernel_shape=[1, 1, 1])],
                 {"s": integers(1, 6, 9, 11, 1)}, "data of shape (1, 6, 9, 11, 1): expected images"),
    "ReduceMean of a fifth axis": ([node("ReduceMean", ["x"], axes=[4])], {}, "axis 4 of 4: expected one of its axes"),
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
        "Conv y: dilations = (1,): expected 2 numbers",
    ),
    "two pads": (
        [node("Conv", ["x", "w"], pads=[1, 1])], {"w": noise((2, 6, 3, 3))}, "pads = (1, 1): expected 4 numbers",
    ),
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
    "no weight": ([node("Conv", ["x"])], {}, "Conv y: malformed: has 1 inputs; expected what"),
    "no input": ([node("Relu", [])], {}, "Relu y: malformed: has 0 inputs; expected what"),
    "the shape of nothing": ([node("Shape", [])], {}, "Shape y: malformed: has 0 inputs; expected what"),
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
    assert refused(path) == "Gather y: indices of axis 1 of (1, 6, 9, 11): expected some of its numbers"


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
    assert "Cast t: to a type of whole numbers" in refused(save_model(path, [cast, *nodes], constants))
    nodes[1].input[2] = "x"
    assert "training_mode is computed by the network" in refused(save_model(path, nodes, constants))


def test_files_of_another_kind(tmp_path: Path) -> None:
    relu, path = node("Relu", ["x"]), tmp_path / "m.onnx"
    assert "opset 6: expected 7 to" in refused(save_model(path, [relu], opset=6))
    half = save_model(path, [relu], dtype=TensorProto.FLOAT16)
    assert refused(half).startswith("input x is of type FLOAT16: expected FLOAT; export the model in float32")
    line = refused(save_model(path, [relu], shape=("N", 3, "H", 8)))
    assert line.startswith(
        "input x: found shape (N, 3, H, 8): axis 2 is H, expected a static shape; give it by --input-shape x:1,3,224,8"
    )
    line = refused(save_model(path, [relu], shape=(2, 3, 4, 4)), batch=3)
    assert line == "input x: the file's batch is 2, not 3; leave out --batch or export again"
