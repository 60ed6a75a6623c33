"""Files of a few hundred bytes that ask for gigabytes or minutes: refused in a line, in no time and little memory."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign import Array, assert_understood, integers, node, operators, refused, save_model, scalar
from networks import noise
from onnx import TensorProto, helper, numpy_helper

from effgen.errors import GraphError
from effgen.graph.onnx import graph_from_onnx, reader, wire
from effgen.graph.onnx.cost import cost_of
from effgen.graph.onnx.functions import without_functions
from effgen.graph.output_kind import output_kind

#: KiB that refusing a file may take.
SMALL = 300 * 1024

BIG = integers(2**14, 2**14)
TOO_LARGE = "constants too large or slow to compute: expected weights as they are; fold them before"
ONES = np.ones((1, 1), np.float32)

UNFOLDING: dict[str, tuple[list[onnx.NodeProto], dict[str, Array]]] = {
    "of a shape": ([node("ConstantOfShape", ["s"], "o")], {"s": integers(2**14, 2**14)}),
    "beyond 64 bits": ([node("ConstantOfShape", ["s"], "o")], {"s": integers(2**40, 2**40)}),
    "expanded": ([node("Expand", ["one", "s"], "o")], {"one": ONES, "s": BIG}),
    "repeated": ([node("Tile", ["one", "s"], "o")], {"one": ONES, "s": BIG}),
    "padded": ([node("Pad", ["one", "p"], "o")], {"one": ONES, "p": integers(0, 0, 2**14, 2**14)}),
    "counted": ([node("Range", ["a", "b", "c"], "o")], {"a": np.array(0), "b": np.array(2**32), "c": np.array(1)}),
    "in tiny steps": ([node("Range", ["a", "b", "c"], "o")], {"a": scalar(0), "b": scalar(1), "c": scalar(1e-30)}),
    "one of many": (
        [node("OneHot", ["i", "d", "v"], "o")], {"i": integers(1), "d": integers(2**31), "v": integers(0, 1)},
    ),
    "resized": ([node("Resize", ["one", "", "", "s"], "o")], {"one": ONES, "s": BIG}),
    "scaled": ([node("Resize", ["one", "", "f"], "o")], {"one": ONES, "f": np.array([2e4, 2e4], np.float32)}),
    "gathered": ([node("Gather", ["k", "k"], "o")], {"k": np.zeros((2**13,), np.int64)[None].repeat(4, 0)}),
    "added across": ([node("Add", ["a", "b"], "o")], {"a": noise((2**14, 1)), "b": noise((1, 2**14))}),
    "multiplied": ([node("MatMul", ["a", "b"], "o")], {"a": noise((2**14, 1)), "b": noise((1, 2**14))}),
    "contracted": ([node("Einsum", ["a", "a", "a"], "o", equation="a,b,c->abc")], {"a": noise((2**10,))}),
    "of letters": ([node("Einsum", ["a"] * 5, "o", equation="a,b,c,d,e->")], {"a": noise((2**8,))}),
    "dequantised": (
        [node("DequantizeLinear", ["q", "f"], "o", block_size=2**31)], {"q": np.ones((4, 4), np.int8), "f": ONES},
    ),
    "dequantised across": (
        [node("DequantizeLinear", ["q", "f"], "o", axis=1)],
        {"q": np.ones((2**14, 1), np.int8), "f": np.ones(2**14, np.float32)},
    ),
    "dequantised by more axes": (
        [node("DequantizeLinear", ["q", "f"], "o", axis=1, block_size=1)],
        {"q": np.ones((2**13, 1), np.int8), "f": np.ones((2**13, 1, 1), np.float32)},
    ),
    "quantised": (
        [node("QuantizeLinear", ["f", "f"], "q", axis=1, block_size=2**28), node("DequantizeLinear", ["q", "s"], "o")],
        {"f": ONES, "s": scalar(1)},
    ),
    "multiplied in stacks": (
        [node("Gemm", ["a", "b"], "o")], {"a": noise((1, 2**14, 1)), "b": noise((1, 2**14))},
    ),
    "added to a product": (
        [node("Gemm", ["a", "b", "c"], "o")], {"a": noise((2**8, 1)), "b": noise((1, 2**8)), "c": noise((2**12, 1, 1))},
    ),
    "contracted with ones": (
        [node("Einsum", ["a", "a", "a", "one", "one", "one"], "o", equation="a,b,c,a,b,c->abc")],
        {"a": noise((2**9,)), "one": noise((1,))},
    ),
    "of an aspect": (
        [node("Resize", ["a", "", "", "s"], "o", keep_aspect_ratio_policy="not_smaller")],
        {"a": noise((2**10, 1)), "s": integers(1, 2**10)},
    ),
    "places in many axes": ([node("NonZero", ["a"], "o")], {"a": np.ones((1,) * 40 + (2**19,), np.float32)}),
    "text": ([node("Cast", ["a"], "t", to=TensorProto.STRING), node("Cast", ["t"], "o", to=1)], {"a": noise((2**20,))}),
    "a window": ([node("HannWindow", ["d"], "o")], {"d": np.array(2**40)}),
    "drawn": ([node("RandomNormal", [], "o", shape=[2**14, 2**14])], {}),
    "a loop": ([node("Loop", ["d", ""], "o", body=helper.make_graph([], "b", [], []))], {"d": np.array(2**40)}),
    "looked for": ([node("RegexFullMatch", ["d"], "o", pattern="(a*)*b")], {"d": np.array(["a" * 40])}),
}  # fmt: skip


def peak() -> int:
    """KiB that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("case", UNFOLDING)
def test_constants_that_unfold(case: str, tmp_path: Path) -> None:
    nodes, constants = UNFOLDING[case]
    path = save_model(tmp_path / "m.onnx", [*nodes, node("Add", ["x", "o"])], constants, opset=21)
    before, start = peak(), time.process_time()
    assert refused(path)
    assert peak() - before < SMALL and time.process_time() - start < 5


def test_many_small_constants_share_one_budget(tmp_path: Path) -> None:
    """Each within it, all together not; of a larger file more may be made."""
    constants = {"s": integers(2**10, 2**11), **{f"n{i}": scalar(i) for i in range(20)}}
    nodes = [node("ConstantOfShape", ["s"], "c0")]
    nodes += [node("Add", [f"c{i}", f"n{i}"], f"c{i + 1}") for i in range(20)]
    nodes += [node("ReduceMax", ["c20"], "m", keepdims=0), node("Add", ["x", "m"])]
    before = peak()
    assert TOO_LARGE in refused(save_model(tmp_path / "m.onnx", nodes, constants))
    assert peak() - before < SMALL
    stored = {**constants, "big": np.zeros((2**22,), np.float32)}
    graph, _ = graph_from_onnx(save_model(tmp_path / "m.onnx", nodes, stored))
    assert operators(graph) == ["Add"]


def test_work_of_many_products_is_one_budget(tmp_path: Path) -> None:
    a, b = noise((2**10, 2**10)), np.eye(2**10, dtype=np.float32)
    nodes = [node("MatMul", ["a", "b"], "p0"), *(node("MatMul", [f"p{i}", "b"], f"p{i + 1}") for i in range(5))]
    nodes += [node("ReduceMax", ["p5"], "m", keepdims=0), node("Add", ["x", "m"])]
    found = refused(save_model(tmp_path / "m.onnx", nodes, {"a": a, "b": b}))
    assert TOO_LARGE in found


FOLDED: dict[str, tuple[list[onnx.NodeProto], dict[str, Array]]] = {
    "Tile": ([node("Tile", ["a", "s"], "o")], {"a": noise((1, 2, 1, 1)), "s": integers(1, 3, 1, 1)}),
    "Expand": ([node("Expand", ["a", "s"], "o")], {"a": noise((1, 6, 1, 1)), "s": integers(1, 1, 9, 11)}),
    "Pad": ([node("Pad", ["a", "s"], "o")], {"a": noise((1, 4, 1, 1)), "s": integers(0, 1, 0, 0, 0, 1, 0, 0)}),
    "MatMul": ([node("MatMul", ["a", "b"], "o")], {"a": noise((9, 5)), "b": noise((5, 11))}),
    "Gemm": ([node("Gemm", ["a", "b"], "o", transA=1)], {"a": noise((5, 9)), "b": noise((5, 11))}),
    "Einsum": ([node("Einsum", ["a", "b"], "o", equation="ij,jk->ik")], {"a": noise((9, 5)), "b": noise((5, 11))}),
    "Resize": ([node("Resize", ["a", "", "", "s"], "o")], {"a": noise((1, 6, 3, 5)), "s": integers(1, 6, 9, 11)}),
    "Gather": ([node("Gather", ["a", "s"], "o", axis=1)], {"a": noise((1, 3, 9, 1)), "s": integers(0, 1, 2, 2, 1, 0)}),
    "GatherND": (
        [node("GatherND", ["a", "s"], "o")], {"a": noise((7, 11)), "s": np.arange(6)[:, None, None, None] % 7},
    ),
    "Erf": ([node("Erf", ["a"], "o")], {"a": noise((6, 1, 1))}),
    "Where": (
        [node("Less", ["a", "b"], "l"), node("Where", ["l", "a", "b"], "o")],
        {"a": noise((9, 1)), "b": noise((11,))},
    ),
    "CumSum": ([node("CumSum", ["a", "s"], "o")], {"a": noise((6, 1, 1)), "s": np.array(0)}),
    "OneHot": (
        [node("OneHot", ["a", "d", "v"], "o")],
        {"a": integers(*range(9)), "d": np.array(11), "v": np.array([0.5, 1], np.float32)},
    ),
    "TopK": ([node("TopK", ["a", "s"], "o i", axis=0)], {"a": noise((9, 1)), "s": integers(9)}),
    "QuantizeLinear": (
        [node("QuantizeLinear", ["a", "f"], "q"), node("DequantizeLinear", ["q", "f"], "o")],
        {"a": noise((6, 1, 1)), "f": scalar(0.1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDED)
def test_what_is_within_the_budget_is_computed(case: str, tmp_path: Path) -> None:
    nodes, constants = FOLDED[case]
    graph, _ = assert_understood(save_model(tmp_path / "m.onnx", [*nodes, node("Add", ["x", "o"])], constants))
    assert operators(graph) == ["Add"]


@pytest.mark.parametrize("case", FOLDED)
def test_the_bound_is_above_what_comes_out(case: str) -> None:
    """Bytes that ONNX's evaluator makes of the node, against those told before."""
    nodes, feeds = FOLDED[case]
    known: dict[str, Any] = dict(feeds)
    for each in nodes:
        cost = cost_of(each, {name: known[name] for name in each.input if name})
        inputs = [numpy_helper.from_array(known[name], name) for name in each.input if name]
        outputs = [helper.make_empty_tensor_value_info(name) for name in each.output]
        body = helper.make_graph([each], "g", [], outputs, inputs)
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)])
        found = onnx.reference.ReferenceEvaluator(model).run(None, {})
        known |= dict(zip(each.output, found, strict=True))
        assert cost is not None and cost.bytes >= sum(array.nbytes for array in found) and cost.operations > 0


def function(name: str, calls: list[tuple[str, str]]) -> onnx.FunctionProto:
    """A row of operators, each with its domain."""
    names = ["a", *(f"t{i}" for i in range(len(calls) - 1)), "b"]
    nodes = [helper.make_node(op, [names[i]], [names[i + 1]], domain=domain) for i, (op, domain) in enumerate(calls)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["b"], nodes, opsets)


def with_functions(path: Path, functions: list[onnx.FunctionProto], called: str) -> Path:
    save_model(path, [helper.make_node(called, ["x"], ["y"], domain="own")])
    model = onnx.load(path)
    model.functions.extend(functions)
    model.opset_import.append(helper.make_opsetid("own", 1))
    path.write_bytes(model.SerializeToString())
    return path


def test_functions_are_unfolded(tmp_path: Path) -> None:
    functions = [function("f0", [("Relu", ""), ("Sigmoid", "")]), function("f1", [("f0", "own"), ("Tanh", "")])]
    graph, _ = assert_understood(with_functions(tmp_path / "m.onnx", functions, "f1"))
    assert operators(graph) == ["Relu", "Sigmoid", "Tanh"]


@pytest.mark.parametrize(
    ("functions", "called", "message"),
    [
        ([function("f0", [("f0", "own")])], "f0", "function f0 calls itself: expected a network without recursion"),
        ([function("f0", [("f1", "own")]), function("f1", [("f0", "own")])], "f1", "function f1 calls itself"),
        ([function("f0", [("Relu", "")] * 8), *(function(f"f{i}", [(f"f{i - 1}", "own")] * 8) for i in range(1, 20))],
         "f19", "has 1,152,921,504,606,846,976 operators, each call of a function unfolded: expected at most 20,000"),
        ([function("f0", [("Relu", "")]), *(function(f"f{i}", [(f"f{i - 1}", "own")]) for i in range(1, 99))],
         "f98", "is called more than 32 functions deep"),
        ([function("f0", [("Constant", "")]), function("f1", [("f0", "own")] * 3)], "f1", ""),
    ],
    ids=["itself", "each other", "laughs", "deep", "malformed"],
)  # fmt: skip
def test_functions_without_end(functions: list[onnx.FunctionProto], called: str, message: str, tmp_path: Path) -> None:
    assert message in refused(with_functions(tmp_path / "m.onnx", functions, called))


def test_functions_that_copy_their_constants(tmp_path: Path) -> None:
    """A megabyte in a function that is called three hundred times."""
    large = function("f0", [("Relu", "")])
    large.node.insert(0, helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(noise((2**18,)))))
    functions = [large, function("f1", [("f0", "own")] * 300)]
    found = refused(with_functions(tmp_path / "m.onnx", functions, "f1"))
    assert found.startswith("calls of its functions come to 3") and "expected at most 268,435,456" in found


def edited(path: Path, edit: Callable[[Any], Any]) -> Path:
    save_model(path, [node("Relu", ["x"])])
    model = onnx.load(path)
    edit(model)
    path.write_bytes(model.SerializeToString())
    return path


#: An attribute of no type, a text that is no UTF-8: two of them have to be put in as bytes.
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda model: model.graph.node[0].attribute.add(name="a"), ""),
        (lambda model: model.graph.node[0].attribute.add(name="a", type=3, s=b"\xff"), ""),
        (lambda model: setattr(model.graph.node[0], "op_type", "Q" * 5000), "holds a name of 5,000 bytes"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 99), "input x is of type 99"),
        (lambda model: model.graph.input[0].type.tensor_type.shape.Clear(), "expected a tensor of static shape"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 2**40), "has 72,567,"),
        (lambda model: model.graph.node[0].output.append("z"), "has 2 outputs; expected what ONNX says of Relu"),
        (lambda model: model.graph.initializer.add(name="w", data_type=77, dims=[2]), "constant w: malformed"),
        (lambda model: model.graph.initializer.add(name="w", data_type=1, dims=[2**40]), "constant w: malformed"),
        (lambda model: model.graph.initializer.add(name="w", data_type=1, dims=[-1, 3]), "constant w: malformed"),
    ],
)
def test_messages_that_no_writer_makes(edit: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    path = edited(tmp_path / "m.onnx", edit)
    if message:
        assert message in refused(path)
    else:
        try:
            graph_from_onnx(path)
        except GraphError as error:
            assert "\n" not in str(error)


def test_attributes_of_another_type(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", [node("Softmax", ["x"], axis=0.5)])
    assert refused(path) == "Softmax y: malformed: its attribute axis is of type FLOAT: expected INT"


def test_texts_that_are_none(tmp_path: Path) -> None:
    data = edited(tmp_path / "m.onnx", lambda model: setattr(model.graph.node[0], "name", "abcdefgh")).read_bytes()
    (tmp_path / "m.onnx").write_bytes(data.replace(b"abcdefgh", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"))
    assert refused(tmp_path / "m.onnx") == "not a readable ONNX model: holds a text that is no UTF-8"


def test_messages_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred bytes of memory for each two of the file."""
    path = edited(tmp_path / "m.onnx", lambda model: model.graph.node.extend([onnx.NodeProto()] * 20_000))
    monkeypatch.setattr(wire, "MOST_MESSAGES", 10_000)
    assert refused(path).startswith("holds more than 10,000 messages")
    monkeypatch.setattr(wire, "MOST_FIELDS", 1000)
    assert refused(path).startswith("holds more than 1,000 fields")


def test_more_operators_than_any_network_has() -> None:
    model = onnx.ModelProto()
    model.graph.node.extend([onnx.NodeProto(op_type="Relu")] * 20_001)
    with pytest.raises(GraphError, match="has 20,001 operators: expected at most 20,000"):
        without_functions(model)


def test_bytes_that_changed(tmp_path: Path) -> None:
    """Any byte: refused in a line, or read as another network."""
    rng = random.Random(5)
    constants = {"w": noise((4, 6, 3, 3)), "s": integers(1, -1)}
    nodes = [node("Conv", ["x", "w"], "c", pads=[1] * 4), node("Reshape", ["c", "s"])]
    whole = save_model(tmp_path / "m.onnx", nodes, constants).read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "m.onnx").write_bytes(data)
        try:
            graph_from_onnx(tmp_path / "m.onnx")
        except GraphError as error:
            assert "\n" not in str(error) and len(str(error)) < 3000


def external(path: Path, entries: dict[str, str], dims: list[int], data_type: int = TensorProto.FLOAT) -> Path:
    """A model whose kernel lies in a file beside it."""
    save_model(path, [node("Conv", ["x", "w"], pads=[1] * 4)])
    model = onnx.load(path)
    tensor = model.graph.initializer.add(name="w", data_type=data_type, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    """As much as a tensor needs is read, wherever the file ends; never more than it has."""
    kernel = noise((4, 6, 3, 3))
    (tmp_path / "w.bin").write_bytes(b"1234" + kernel.tobytes() + b"more")
    for stated in ({}, {"length": str(kernel.nbytes)}):
        path = external(tmp_path / "m.onnx", {"location": "w.bin", "offset": "4", **stated}, list(kernel.shape))
        assert (graph_from_onnx(path)[1]["w"] == kernel).all()
    for entries, dims, message in (
        ({"location": "w.bin", "length": "5"}, [4, 6, 3, 3], "external data of w: length 5: expected 864"),
        ({"location": "none.bin"}, [4, 6, 3, 3], "external data of w: "),
        ({"location": "/etc/passwd"}, [4, 6, 3, 3], "external data of w: "),
        ({"location": "../w.bin"}, [4, 6, 3, 3], "external data of w: "),
        ({}, [4, 6, 3, 3], "external data of w: "),
        ({"location": "w.bin", "offset": "-1"}, [4, 6, 3, 3], "external data of w: "),
        ({"location": "w.bin", "offset": "x"}, [4, 6, 3, 3], "external data of w: "),
        ({"location": "w.bin"}, [2**40, 6, 3, 3], "its external data is larger than 2 GiB"),
        ({"location": "w.bin"}, [-4, 6, 3, 3], "external data of w: of an unknown type or shape"),
    ):
        assert refused(external(tmp_path / "m.onnx", entries, dims)).startswith(message)
    path = external(tmp_path / "m.onnx", {"location": "w.bin"}, [4, 6, 3, 3], 99)
    assert refused(path) == "external data of w: of an unknown type or shape"


def test_rows_of_operators_that_python_cannot_go_down(tmp_path: Path) -> None:
    """Products of products, and tensors that are joined with themselves: neither recursion nor doubling."""
    rows = {f"k{i}": scalar(1.5) for i in range(2000)}
    nodes = [node("Mul", ["x", "k0"], "t0"), *(node("Mul", [f"t{i}", f"k{i + 1}"], f"t{i + 1}") for i in range(1999))]
    graph, _ = graph_from_onnx(save_model(tmp_path / "m.onnx", [*nodes, node("Relu", ["t1999"])], rows))
    assert operators(graph) == ["Mul"] * 2000 + ["Relu"]
    joined = [node("Relu", ["x"], "t0"), *(node("Concat", [f"t{i}"] * 2, f"t{i + 1}", axis=2) for i in range(19))]
    graph, _ = graph_from_onnx(save_model(tmp_path / "m.onnx", [*joined, node("Identity", ["t19"])]))
    start = time.process_time()
    assert output_kind(graph) == "logits" and time.process_time() - start < 1


def test_nodes_that_become_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_MOST_MADE", 20)
    path = save_model(tmp_path / "m.onnx", [node("Sum", ["x"] * 50)])
    assert refused(path) == "Sum y: is more than 20 operators"
