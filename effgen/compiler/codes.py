"""Kernel calls of a quantised network -> kernels that multiply codes, and that store them.

    QuantizeLinear -> DequantizeLinear -> pointwise, dense, scale     the kernel reads the codes
    QuantizeLinear -> DequantizeLinear -> residual of these           the kernel adds what the codes stand for
    kernel -> QuantizeLinear                                          the kernel stores the codes

Codes are bytes in memory where nothing reads them but DequantizeLinear, of the type that the machine multiplies: what
is signed in the graph and unsigned there has another zero point, and stands for the same numbers. Weights have to be
codes of a byte around zero. All that is left reads and writes numbers, and rounds them as the graph says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.compiler.calls import Call, CodesOf, KernelCall, Layer, OpCall
from effgen.graph import Graph, Node, Parameter, Weights
from effgen.graph.codes import Grid, spread
from effgen.graph.ops.quantization import CODES, floats
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.workload import CODE_TYPES, Activation, Workload, activation_and_numbers
from effgen.machines.dot import Dot

# The greatest code that data may have, and weights: sums of so many products must fit int32.
_MOST_DATA, _MOST_WEIGHT = 255, 128


def multiplied(calls: Sequence[Call], graph: Graph, dot: Dot) -> tuple[Call, ...]:
    """The calls in which matrix products of codes read codes. What nothing reads any more is gone."""
    stored = stored_codes(graph, dot)
    codes = {node.output: (node.inputs[0], stored[node.inputs[0]]) for node in graph.nodes if _reads(node, stored)}
    found: list[Call] = []
    for call in calls:
        if isinstance(call, KernelCall):
            call = _reading(call, graph, dot, codes)
        found.append(call)
    return _without_unread(found, graph)


def rounded(calls: Sequence[Call], graph: Graph, dot: Dot) -> tuple[Call, ...]:
    """The calls in which kernels store the codes of what they make, where nothing else reads the numbers."""
    stored = stored_codes(graph, dot)
    readers = _readers(calls)
    rounding = {call.node.inputs[0]: call for call in calls if isinstance(call, OpCall) and call.node.output in stored}
    found: list[Call] = []
    absorbed: set[str] = set()
    for call in calls:
        image = call.outputs[0] if isinstance(call, KernelCall) else None
        quantize = rounding.get(image) if image is not None else None
        if isinstance(call, KernelCall) and quantize and readers[call.outputs[0]] == 1 and image not in graph.outputs:
            made = _rounding(call, quantize.node.output, stored[quantize.node.output])
            absorbed |= {quantize.node.output} if made is not call else set()
            call = made
        found.append(call)
    return tuple(call for call in found if not (isinstance(call, OpCall) and call.node.output in absorbed))


def stored_codes(graph: Graph, dot: Dot) -> dict[str, CodesOf]:
    """Tensors of codes that are bytes in memory, and how they stand there."""
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.inputs:
            readers[name].append(node)
    found: dict[str, CodesOf] = {}
    for node in graph.nodes:
        if node.op_type != "QuantizeLinear" or len(floats(node.attributes, "scale")) > 1:
            continue
        if node.output in graph.outputs or str(node.attributes["type"]) not in CODE_TYPES:
            continue
        if all(_makes_numbers_of(node, reader) for reader in readers[node.output]):
            found[node.output] = _stored(node, dot)
    return found


def _makes_numbers_of(quantize: Node, reader: Node) -> bool:
    return reader.op_type == "DequantizeLinear" and _grid(reader) == _grid(quantize)


def _grid(node: Node) -> tuple[object, ...]:
    return tuple(node.attributes[key] for key in ("scale", "zero_point", "type"))


def _stored(node: Node, dot: Dot) -> CodesOf:
    (scale,), (zero,) = floats(node.attributes, "scale"), floats(node.attributes, "zero_point")
    shift = CODE_TYPES[dot.codes][0] - CODES[str(node.attributes["type"])][0]
    return CodesOf(scale, int(zero) + shift, dot.codes)


def _reads(node: Node, stored: Mapping[str, CodesOf]) -> bool:
    return node.op_type == "DequantizeLinear" and node.inputs[0] in stored


def _readers(calls: Sequence[Call]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for call in calls:
        for name in call.node.inputs if isinstance(call, OpCall) else call.inputs:
            found[name] += 1
    return found


def _can_multiply(call: KernelCall, graph: Graph, dot: Dot) -> bool:
    conv = call.workload
    if not isinstance(conv, Conv2d) or conv.family not in ("pointwise", "dense") or conv.gated:
        return False
    deep = conv.in_channels * _MOST_DATA * _MOST_WEIGHT < 2**31
    return deep and conv.in_channels % dot.depth == 0 and graph.parameters[call.layers[0].weight].grid is not None


def _reading(call: KernelCall, graph: Graph, dot: Dot, codes: Mapping[str, tuple[str, CodesOf]]) -> KernelCall:
    """The call that reads codes where its kernel can; `codes`: by the tensor of the numbers that they stand for."""
    if call.inputs[0] in codes and isinstance(call.workload, ChannelScale):
        name, data = codes[call.inputs[0]]
        scale = replace(call.workload, dtype=data.type)
        return replace(call, workload=scale, inputs=(name, *call.inputs[1:]), read=data)
    if call.inputs[0] in codes and _can_multiply(call, graph, dot):
        call = _of_codes(call, *codes[call.inputs[0]])
    conv = call.workload
    if (
        isinstance(conv, Conv2d)
        and conv.residual
        and conv.family in ("pointwise", "dense")
        and call.inputs[-1] in codes
    ):
        name, added = codes[call.inputs[-1]]
        conv = replace(conv, residual_type=added.type)
        layers = (replace(call.layers[0], conv=conv),)
        return replace(call, workload=conv, inputs=(*call.inputs[:-1], name), layers=layers, read=added)
    return call


def _of_codes(call: KernelCall, codes: str, data: CodesOf) -> KernelCall:
    assert isinstance(call.workload, Conv2d)
    conv = replace(call.workload, dtype=data.type)
    layer = replace(call.layers[0], conv=conv, data=data)
    return replace(call, workload=conv, inputs=(codes, *call.inputs[1:]), layers=(layer,))


def _without_unread(calls: Sequence[Call], graph: Graph) -> tuple[Call, ...]:
    """Without the DequantizeLinear whose numbers nothing reads."""
    read = {*_readers(calls), *graph.outputs}
    return tuple(
        call
        for call in calls
        if not (isinstance(call, OpCall) and call.node.op_type == "DequantizeLinear" and call.node.output not in read)
    )


def _rounding(call: KernelCall, codes: str, stored: CodesOf) -> KernelCall:
    """The call that stores codes; the same one where its kernel cannot."""
    workload: Workload = call.workload
    match workload:
        case ChannelScale():
            return replace(call, workload=replace(workload, code_type=stored.type), outputs=(codes,), rounded=stored)
        case ExpandDepthwise():
            depthwise = _made(workload.depthwise, stored)
            workload = replace(workload, depthwise=depthwise)
            conv = depthwise
        case Conv2d() if workload.family in ("pointwise", "dense", "depthwise"):
            conv = workload = _made(workload, stored)
        case _:
            return call
    layers = (*call.layers[:-1], replace(call.layers[-1], conv=conv))
    return replace(call, workload=workload, outputs=(codes, *call.outputs[1:]), layers=layers, rounded=stored)


def _made(conv: Conv2d, stored: CodesOf) -> Conv2d:
    """The convolution that stores codes; without an activation that does nothing where codes end: ReLU of what is at
    least 0 by its code."""
    last = conv.activation_last or not conv.residual
    idle = last and not conv.row_sums and _is_idle(conv.activation, stored)
    return replace(
        conv,
        code_type=stored.type,
        activation="none" if idle else conv.activation,
        activation_last=conv.activation_last and not idle,
    )


def _is_idle(activation: Activation, stored: CodesOf) -> bool:
    least, greatest = ((bound - stored.zero_point) * stored.scale for bound in CODE_TYPES[stored.type])
    if activation == "relu":
        return least >= 0
    if activation == "relu6":
        return least >= 0 and greatest <= 6
    word, bounds = activation_and_numbers(activation)
    return word == "clip" and least >= bounds[0] and greatest <= bounds[1]


def with_signed_weights(graph: Graph, weights: Weights) -> Graph:
    """The graph whose parameters are said to be codes only where they are, of a byte and around zero."""
    found = {name: _signed(parameter, weights[name]) for name, parameter in graph.parameters.items()}
    return replace(graph, parameters=found)


def _signed(parameter: Parameter, array: NDArray[np.float32]) -> Parameter:
    grid = parameter.grid
    codes = grid.codes_of(array) if grid is not None and (len(grid.scale) == 1 or grid.axis == 0) else None
    if grid is None or codes is None:
        return replace(parameter, grid=None)
    steps = codes - spread(grid.zero_point, grid.axis, array.shape)
    fits = steps.min() >= -_MOST_WEIGHT and steps.max() < _MOST_WEIGHT
    around_zero = Grid(grid.scale, (0,) * len(grid.scale), grid.axis, "int8")
    return replace(parameter, grid=around_zero if fits else None)


def parameters_of(layer: Layer, grid: Grid, weight: NDArray[np.float32], bias: NDArray[Any]) -> list[NDArray[Any]]:
    """What the kernel of a layer that multiplies codes takes: weight, start, factor and bias (see `Conv2d`).

    sum((data - zero_point) * weight) = sum(data * weight) - zero_point * sum(weight)
    """
    assert layer.data is not None
    codes = grid.codes_of(weight)
    assert codes is not None, layer
    start = -layer.data.zero_point * codes.reshape(len(codes), -1).sum(1, dtype=np.int64)
    factor = layer.data.scale * np.broadcast_to(np.array(grid.scale, np.float64), len(codes))
    return [codes.reshape(len(codes), -1, 1, 1), start, factor, bias]
