"""ONNX files that are a little or very wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from mutations import changed_bytes
from onnx import AttributeProto, TensorProto, defs, helper, numpy_helper

from effgen.graph.onnx.read import CONVERTERS

_NUMBERS = (0, 1, -1, 2, 3, 7, 255, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, -(2**31), -(2**63), 2**63 - 1)
_FLOATS = (0.0, -1.0, 1.0, 0.5, 1e30, -1e30, float("nan"), float("inf"), 1e-40)


def onnx_input(rng: random.Random) -> bytes:
    """A model made wrong by nodes put in, by edits of its messages, or by bytes that changed."""
    model = _seeds(rng)
    if rng.random() < 0.3:
        _unfold(model, rng)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        _edit(model, rng)
    try:
        data: bytes = model.SerializeToString()
    except Exception:  # an edit that protobuf itself refuses to write
        data = _seeds(rng).SerializeToString()
    return changed_bytes(data, rng) if rng.random() < 0.2 else data


def _model(nodes: Sequence[onnx.NodeProto], constants: dict[str, Any], functions: Sequence[Any] = ()) -> Any:
    body = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=8, functions=list(functions))
    helper.set_model_props(model, {"effgen.mean": "[0.1, 0.2, 0.3]", "effgen.std": "[1, 1, 1]", "names": "{0: 'a'}"})
    return model


def _seeds(rng: random.Random) -> Any:
    return rng.choice((_network, _branches, _functions, _shapes, _random_nodes))(rng)


def _network(rng: random.Random) -> Any:
    zeros = np.random.default_rng(rng.randrange(2**32)).standard_normal
    constants = {"w": zeros((8, 3, 3, 3), np.float32), "b": zeros(8, np.float32), "v": zeros((5, 8), np.float32)}
    constants |= {name: abs(zeros(8, np.float32)) for name in ("scale", "shift", "mean", "var")}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], epsilon=1e-3),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    return _model(nodes, constants)


def _shapes(rng: random.Random) -> Any:
    constants = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1]), "w": np.ones((5, 768), np.float32)}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
    ]
    return _model(nodes, constants)


def _branches(rng: random.Random) -> Any:
    def branch(op: str) -> Any:
        out = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["x"], ["t"])], op, [], [out])

    node = helper.make_node("If", ["c"], ["i"], then_branch=branch("Relu"), else_branch=branch("Sigmoid"))
    return _model([node, helper.make_node("Tanh", ["i"], ["y"])], {"c": np.array(rng.random() < 0.5)})


def _functions(rng: random.Random) -> Any:
    """Functions that call each other; sometimes each calls the one below often, or one calls itself."""
    depth, times, functions = rng.choice((1, 2, 5, 40)), rng.choice((1, 1, 2, 8)), []
    for level in range(depth):
        inner = ("Relu", "") if level == 0 else (f"f{level - 1}", "own")
        if rng.random() < 0.03:
            inner = (f"f{level}", "own")
        names = ["a", *(f"t{i}" for i in range(times - 1)), "b"]
        nodes = [helper.make_node(inner[0], [names[i]], [names[i + 1]], domain=inner[1]) for i in range(times)]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], nodes, opsets))
    return _model([helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain="own")], {}, functions)


def _random_nodes(rng: random.Random) -> Any:
    """Operators in a row, each of the image, of constants or of what is before it."""
    constants: dict[str, Any] = {f"k{i}": _constant(rng) for i in range(4)}
    made, nodes = ["x", *constants, ""], []
    known = sorted(CONVERTERS) if rng.random() < 0.7 else _standard()
    for number in range(rng.randrange(1, 5)):
        inputs = [rng.choice(made) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))]
        if rng.random() < 0.6:
            inputs[0] = rng.choice(("x", f"t{number - 1}" if number else "x"))
        node = helper.make_node(rng.choice(known), inputs, [f"t{number}"])
        for name in _attribute_names(node.op_type, rng):
            _set(node, name, rng)
        made.append(f"t{number}")
        nodes.append(node)
    nodes.append(helper.make_node("Relu", [made[-1]], ["y"]))
    return _model(nodes, constants)


def _standard() -> list[str]:
    return sorted({schema.name for schema in defs.get_all_schemas() if schema.domain == ""})


def _attribute_names(op_type: str, rng: random.Random) -> list[str]:
    try:
        known = sorted(defs.get_schema(op_type).attributes)
    except Exception:  # an operator that is none
        known = []
    return [name for name in known if rng.random() < 0.5 and not name.endswith(("_branch", "body"))]


def _constant(rng: random.Random) -> Any:
    kind = rng.randrange(5)
    if kind == 0:
        return np.array([rng.choice(_NUMBERS) for _ in range(rng.randrange(5))], np.int64)
    if kind == 1:
        return np.array(rng.choice(_NUMBERS), np.int64)
    if kind == 2:
        return np.array([rng.choice(_FLOATS) for _ in range(rng.randrange(4))], np.float32)
    if kind == 3:
        return np.ones([rng.randrange(5) for _ in range(rng.randrange(6))], rng.choice((np.float32, np.float16, bool)))
    return np.array([rng.randrange(-2, 40) for _ in range(rng.randrange(6))], np.int64)


def _unfold(model: Any, rng: random.Random) -> None:
    """Constants that are asked to become large, where the image is read or nowhere."""
    big = [rng.choice((2**12, 2**16, 2**31, 2**40)) for _ in range(rng.randrange(1, 4))]
    nodes: list[Callable[[], list[Any]]] = [
        lambda: [helper.make_node("ConstantOfShape", ["_s"], ["_o"])],
        lambda: [helper.make_node("ConstantOfShape", ["_s"], ["_a"]), helper.make_node("Erf", ["_a"], ["_o"])],
        lambda: [helper.make_node("Expand", ["_one", "_s"], ["_o"])],
        lambda: [helper.make_node("Tile", ["_one", "_s"], ["_o"])],
        lambda: [helper.make_node("Pad", ["_one", "_p"], ["_o"])],
        lambda: [helper.make_node("Range", ["_0", "_n", "_1"], ["_o"])],
        lambda: [helper.make_node("OneHot", ["_i", "_n", "_v"], ["_o"])],
        lambda: [helper.make_node("Resize", ["_one", "", "", "_s"], ["_o"])],
        lambda: [helper.make_node("Resize", ["_one", "", "_f"], ["_o"])],
        lambda: [
            helper.make_node("Expand", ["_one", "_m"], ["_a"]),
            helper.make_node("Expand", ["_one", "_k"], ["_b"]),
            helper.make_node(rng.choice(("MatMul", "Gemm", "Add")), ["_a", "_b"], ["_o"]),
        ],
        lambda: [helper.make_node("RandomNormal", [], ["_o"], shape=big)],
        lambda: [helper.make_node("HannWindow", ["_n"], ["_o"])],
        lambda: [helper.make_node("Einsum", ["_one", "_one"], ["_o"], equation="abcd,efgh->abcdefgh")],
        lambda: [helper.make_node("Concat", [f"_c{i}", f"_c{i}"], [f"_c{i + 1}"], axis=0) for i in range(60)],
    ]  # fmt: skip
    constants = {
        "_s": np.array(big), "_one": np.ones([1] * len(big), np.float32), "_p": np.array([0] * len(big) + big),
        "_0": np.array(0), "_1": np.array(1), "_n": np.array(big[0]), "_i": np.arange(9), "_v": np.array([0, 1]),
        "_f": np.array(big, np.float32), "_m": np.array([2**15, 2**8]), "_k": np.array([2**8, 2**15]),
        "_c0": np.ones(9, np.float32),
    }  # fmt: skip
    added = rng.choice(nodes)()
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    for index, node in enumerate(added):
        model.graph.node.insert(index, node)
    if rng.random() < 0.5:
        rng.choice(model.graph.node).input.append(added[-1].output[0])


def _edit(model: Any, rng: random.Random) -> None:
    messages = list(_messages(model))
    message = rng.choice(messages)
    fields = message.DESCRIPTOR.fields
    field = rng.choice(fields)
    try:
        _edit_field(message, field, rng)
    except (AttributeError, TypeError, ValueError, IndexError):
        return


def _edit_field(message: Any, field: Any, rng: random.Random) -> None:
    repeated = isinstance(getattr(message, field.name), Sequence) or hasattr(getattr(message, field.name), "extend")
    if field.type == field.TYPE_MESSAGE:
        if repeated:
            items = getattr(message, field.name)
            if items and rng.random() < 0.5:
                del items[rng.randrange(len(items))]
            elif items:
                items.append(rng.choice(items))
            else:
                items.add()
        else:
            message.ClearField(field.name)
        return
    values: dict[Any, Any] = {
        field.TYPE_STRING: ("", "x", "y", "w", "x" * 5000, "\x1b[31m", "Conv", "ai.onnx", "own", "f0", "axis"),
        field.TYPE_BYTES: (b"", b"\xff\xfe", b"SAME_UPPER", b"x" * 99),
        field.TYPE_FLOAT: _FLOATS,
        field.TYPE_DOUBLE: _FLOATS,
        field.TYPE_ENUM: tuple(range(30)),
    }
    value = rng.choice(values.get(field.type, _NUMBERS))
    if not repeated:
        setattr(message, field.name, value)
        return
    items = getattr(message, field.name)
    if items and rng.random() < 0.6:
        items[rng.randrange(len(items))] = value
    elif items and rng.random() < 0.5:
        del items[rng.randrange(len(items))]
    else:
        items.append(value)


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if hasattr(value, "extend") else (value,):
                yield from _messages(each)


def _set(node: Any, name: str, rng: random.Random) -> None:
    kinds: dict[str, Callable[[], Any]] = {
        "int": lambda: rng.choice(_NUMBERS),
        "float": lambda: rng.choice(_FLOATS),
        "ints": lambda: [rng.choice((1, 1, 2, 3, *_NUMBERS)) for _ in range(rng.randrange(1, 9))],
        "floats": lambda: [rng.choice(_FLOATS) for _ in range(rng.randrange(1, 5))],
        "string": lambda: rng.choice(("constant", "SAME_UPPER", "linear", "NOTSET", "b\xff", "floor", "cubic", "")),
    }
    try:
        expected = defs.get_schema(node.op_type).attributes[name].type.name.lower()
    except Exception:  # an operator that is none
        expected = "int"
    if rng.random() < 0.15 or expected not in kinds:
        expected = rng.choice(list(kinds))
    attribute: AttributeProto = helper.make_attribute(name, kinds[expected]())
    node.attribute.append(attribute)
