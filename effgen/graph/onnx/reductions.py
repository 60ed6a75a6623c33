"""Axes reduced to one number."""

from __future__ import annotations

from collections.abc import Mapping

from effgen.graph.onnx.reader import Converter, OnnxNode, Reader
from effgen.graph.ops import Shape


def reduce(reader: Reader, node: OnnxNode) -> None:
    """ReduceMean, -Max, -Min, -Sum and -Prod; of height and width the mean is a GlobalAveragePool."""
    reduced(reader, node.op_type, reader.tensor(node.inputs[0]), *_axes(reader, node), node.output)


def reduced(reader: Reader, op_type: str, source: str, axes: Shape, keepdims: bool, output: str) -> None:
    """A tensor of the Graph reduced along `axes`, which may be none."""
    shape = reader.values[source].shape
    if not axes:
        reader.alias(output, source)
        return
    if op_type != "ReduceMean" or len(shape) != 4 or axes != (2, 3):
        reader.emit(op_type, [source], output, axes=axes, keepdims=int(keepdims))
    elif keepdims:
        reader.emit("GlobalAveragePool", [source], output)
    else:
        pooled = reader.emit("GlobalAveragePool", [source], reader.fresh(f"{output}.pool"))
        reader.emit("Flatten", [pooled], output, axis=1)


def reduce_of_function(reader: Reader, node: OnnxNode) -> None:
    """ReduceL1, -L2, -SumSquare, -LogSum and -LogSumExp by the operators that they stand for."""
    source, (axes, keepdims) = reader.tensor(node.inputs[0]), _axes(reader, node)
    kind, output = node.op_type.removeprefix("Reduce"), node.output
    if kind == "LogSumExp":
        _log_sum_exp(reader, source, axes, keepdims, output)
        return
    if kind == "L1":
        source = reader.emit("Abs", [source], reader.fresh(f"{output}.abs"))
    elif kind in ("L2", "SumSquare"):
        source = reader.emit("Mul", [source, source], reader.fresh(f"{output}.square"))
    last = {"L2": "Sqrt", "LogSum": "Log"}.get(kind)
    name = output if last is None else reader.fresh(f"{output}.sum")
    reduced(reader, "ReduceSum", source, axes, keepdims, name)
    if last is not None:
        reader.emit(last, [reader.tensor(name)], output)


def _log_sum_exp(reader: Reader, source: str, axes: Shape, keepdims: bool, output: str) -> None:
    """The greatest is taken out before, so that no exponential overflows."""
    if not axes:
        reader.alias(output, source)
        return
    most = reader.emit("ReduceMax", [source], reader.fresh(f"{output}.max"), axes=axes, keepdims=1)
    below = reader.emit("Sub", [source, most], reader.fresh(f"{output}.below"))
    powers = reader.emit("Exp", [below], reader.fresh(f"{output}.exp"))
    total = reader.emit("ReduceSum", [powers], reader.fresh(f"{output}.sum"), axes=axes, keepdims=1)
    log = reader.emit("Log", [total], reader.fresh(f"{output}.log"))
    kept = output if keepdims else reader.fresh(f"{output}.kept")
    reader.emit("Add", [log, most], kept)
    if not keepdims:
        shape = reader.values[kept].shape
        wanted = tuple(n for axis, n in enumerate(shape) if axis not in axes)
        reader.emit("Reshape", [kept], output, shape=wanted)


def global_average_pool(reader: Reader, node: OnnxNode) -> None:
    source = reader.tensor(node.inputs[0])
    reduced(reader, "ReduceMean", source, tuple(range(2, reader.rank(source))), True, node.output)


def global_max_pool(reader: Reader, node: OnnxNode) -> None:
    """Of an image a pool whose window is all of it."""
    source = reader.tensor(node.inputs[0])
    if reader.rank(source) == 4:
        kernel = reader.values[source].shape[2:]
        reader.emit("MaxPool", [source], node.output, kernel_shape=kernel, pads=(0, 0, 0, 0), strides=(1, 1))
        return
    reduced(reader, "ReduceMax", source, tuple(range(2, reader.rank(source))), True, node.output)


CONVERTERS: Mapping[str, Converter] = {
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    **{f"Reduce{kind}": reduce for kind in ("Max", "Mean", "Min", "Prod", "Sum")},
    **{f"Reduce{kind}": reduce_of_function for kind in ("L1", "L2", "LogSum", "LogSumExp", "SumSquare")},
}


def _axes(reader: Reader, node: OnnxNode) -> tuple[Shape, bool]:
    """The axes, sorted and counted from the front; all where none are named, unless that means none at all."""
    rank = len(reader.shape(node.inputs[0]))
    axes = reader.integers(node, "axes", 1)
    if not axes:
        axes = () if node.attributes.get("noop_with_empty_axes", 0) else tuple(range(rank))
    found = tuple(sorted({reader.axis(axis, rank) for axis in axes}))
    return found, bool(node.attributes.get("keepdims", 1))
