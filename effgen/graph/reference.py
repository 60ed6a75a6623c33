"""The same Graph executed by PyTorch: the judge of every result."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from effgen.graph import Graph, Node, Weights, check_weights
from effgen.graph.codes import spread
from effgen.graph.ops import BINARY, CODES, UNARY, floats, integer, ints, number, text
from effgen.graph.resize import resize_taps


class GraphModule(torch.nn.Module):  # type: ignore[misc]
    """A torch module that runs `graph` operator by operator, NCHW, with `weights` as frozen parameters. Without
    `rounding`, codes are no whole numbers: only their bounds are left of them."""

    def __init__(
        self, graph: Graph, weights: Weights, dtype: torch.dtype = torch.float32, rounding: bool = True
    ) -> None:
        super().__init__()
        check_weights(graph, weights)
        self._nodes = graph.nodes
        self._rounding = rounding
        self._input = graph.input.name
        self._outputs = graph.outputs
        self._dead_after = _last_uses(graph)
        # Numbers, not names: another program's may hold anything.
        self._attribute_of = {name: f"parameter_{index}" for index, name in enumerate(graph.parameters)}
        for name, attribute in self._attribute_of.items():
            tensor = torch.tensor(weights[name], dtype=dtype)
            self.register_parameter(attribute, torch.nn.Parameter(tensor, requires_grad=False))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """`image` (batch, channels, height, width) -> the output; a tuple where the graph has several."""
        values = {self._input: image}
        for index, node in enumerate(self._nodes):
            operands = [self._operand(name, values) for name in node.inputs]
            values[node.output] = self.run(node, *operands)
            del operands
            for name in self._dead_after[index]:
                del values[name]
        outputs = tuple(values[name] for name in self._outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def run(self, node: Node, *operands: Tensor) -> Tensor:
        """One operator's output."""
        if node.op_type == "QuantizeLinear" and not self._rounding:
            return _bounded(node, *operands)
        return _RUN[node.op_type](node, *operands)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by the graph's names; those of the module itself, not copies."""
        return {name: getattr(self, attribute) for name, attribute in self._attribute_of.items()}

    def _operand(self, name: str, values: dict[str, Tensor]) -> Tensor:
        attribute = self._attribute_of.get(name)
        return values[name] if attribute is None else getattr(self, attribute)


def _last_uses(graph: Graph) -> list[list[str]]:
    """For each node the activations that nothing after it reads: B7's would fill gigabytes if they were all kept."""
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    dead: list[list[str]] = [[] for _ in graph.nodes]
    for name, index in last.items():
        if name not in graph.parameters and name not in graph.outputs:
            dead[index].append(name)
    return dead


def run_reference(graph: Graph, weights: Weights, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output of `graph`, which has one, for `image` (batch, channels, height, width), computed by PyTorch in
    float32."""
    (output,) = reference_outputs(graph, weights, image)
    return output


def reference_outputs(
    graph: Graph, weights: Weights, image: NDArray[np.float32], rounding: bool = True
) -> tuple[NDArray[np.float32], ...]:
    """As `run_reference` of a graph with any number of outputs, in their order; `rounding` as in GraphModule."""
    module = GraphModule(graph, weights, rounding=rounding).eval()
    with torch.inference_mode():
        # A copy: PyTorch refuses to share the memory of a read-only array.
        found = module(torch.tensor(image))
    return tuple(output.numpy() for output in (found if isinstance(found, tuple) else (found,)))


def _conv(node: Node, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    attributes: Any = node.attributes
    top, left, bottom, right = attributes["pads"]
    padding = (top, left)
    if (top, left) != (bottom, right):
        data = functional.pad(data, (left, right, top, bottom))
        padding = (0, 0)
    dilation = attributes.get("dilations", (1, 1))
    return functional.conv2d(data, weight, bias, attributes["strides"], padding, dilation, attributes["group"])


def _max_pool(node: Node, x: Tensor) -> Tensor:
    attributes: Any = node.attributes
    padded = _bordered(x, attributes["pads"], -torch.inf)
    dilation = attributes.get("dilations", (1, 1))
    return functional.max_pool2d(padded, attributes["kernel_shape"], attributes["strides"], dilation=dilation)


def _average_pool(node: Node, x: Tensor) -> Tensor:
    """Sums of windows over the number of pixels in them that count."""
    attributes: Any = node.attributes
    kernel, strides, (top, left, bottom, right) = attributes["kernel_shape"], attributes["strides"], attributes["pads"]
    down, across = attributes.get("beyond", (0, 0))
    counted = torch.ones_like(x[:1, :1])
    if attributes["count_include_pad"]:
        counted = _bordered(counted, (top, left, bottom - down, right - across), 1.0)
        counted = _bordered(counted, (0, 0, down, across), 0.0)
    else:
        counted = _bordered(counted, attributes["pads"], 0.0)
    sums, counts = (
        functional.avg_pool2d(image, kernel, strides, divisor_override=1)
        for image in (_bordered(x, attributes["pads"], 0.0), counted)
    )
    return sums / counts


def _bordered(x: Tensor, pads: tuple[int, ...], value: float) -> Tensor:
    top, left, bottom, right = pads
    return functional.pad(x, (left, right, top, bottom), value=value)


def _shuffle(node: Node, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    group = int(number(node.attributes, "group"))
    return x.reshape(n, group, c // group, h, w).transpose(1, 2).reshape(n, c, h, w)


def _batchnorm(node: Node, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    eps = number(node.attributes, "epsilon")
    return functional.batch_norm(x, mean, var, scale, shift, training=False, eps=eps)


def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = integer(node.attributes, "axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _clip(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(x, number(node.attributes, "min"), number(node.attributes, "max"))


def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(x * number(node.attributes, "alpha") + number(node.attributes, "beta"), 0.0, 1.0)


def _conv_transpose(node: Node, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Without pads, then cut: PyTorch knows only equal pads on both sides."""
    attributes: Any = node.attributes
    top, left, bottom, right = attributes["pads"]
    down, across = attributes.get("output_padding", (0, 0))
    dilation = attributes.get("dilations", (1, 1))
    whole = functional.conv_transpose2d(
        data, weight, None, attributes["strides"], groups=attributes["group"], dilation=dilation
    )
    # Rows that `output_padding` adds lie behind the last window and hold nothing but the bias.
    whole = functional.pad(whole, (-left, across - right, -top, down - bottom))
    return whole if bias is None else whole + bias.reshape(1, -1, 1, 1)


def _resize(node: Node, x: Tensor) -> Tensor:
    for axis in (0, 1):
        taps = resize_taps(node.attributes, axis, x.shape[2 + axis])
        matrix = torch.zeros(len(taps.indices), x.shape[2 + axis], dtype=x.dtype)
        matrix.scatter_add_(1, torch.tensor(taps.indices), torch.tensor(taps.weights, dtype=x.dtype))
        x = torch.einsum("nchw,oh->ncow" if axis == 0 else "nchw,ow->ncho", x, matrix)
    return x


def _pad(node: Node, x: Tensor) -> Tensor:
    """One axis after another: PyTorch's own padding knows some modes for some axes."""
    pads, mode = ints(node.attributes, "pads"), text(node.attributes, "mode")
    for axis in range(x.ndim):
        before, after = pads[axis], pads[axis + x.ndim]
        if mode == "constant":
            widths = [0] * (2 * (x.ndim - axis - 1)) + [before, after]
            x = functional.pad(x, widths, value=number(node.attributes, "value"))
        elif before or after:
            places = np.pad(np.arange(x.shape[axis]), (before, after), mode)  # type: ignore[call-overload]
            x = x.index_select(axis, torch.tensor(places))
    return x


def _slice(node: Node, x: Tensor) -> Tensor:
    axes, starts, ends, steps = (ints(node.attributes, key) for key in ("axes", "starts", "ends", "steps"))
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        x = x.index_select(axis, torch.tensor(range(start, end, step)))
    return x


def _lrn(node: Node, x: Tensor) -> Tensor:
    """Sums over neighbouring channels; of an even number there is one more behind."""
    size = integer(node.attributes, "size", 1)
    before = (size - 1) // 2
    squares = functional.pad((x * x).unsqueeze(1), (0, 0, 0, 0, before, size - 1 - before))
    sums = functional.avg_pool3d(squares, (size, 1, 1), stride=1, divisor_override=1).squeeze(1)
    alpha, beta, bias = (number(node.attributes, key) for key in ("alpha", "beta", "bias"))
    return x / (bias + alpha / size * sums) ** beta


def _instance_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    axes = tuple(range(2, x.ndim))
    centred = x - x.mean(axes, keepdim=True)
    normal = centred / torch.sqrt((centred * centred).mean(axes, keepdim=True) + number(node.attributes, "epsilon"))
    by_channel = (1, -1, *[1] * len(axes))
    return normal * scale.reshape(by_channel) + shift.reshape(by_channel)


def _layer_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    return functional.layer_norm(x, scale.shape, scale, shift, number(node.attributes, "epsilon"))


def _reduced(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def of(node: Node, x: Tensor) -> Tensor:
        axes = ints(node.attributes, "axes")
        return run(x, axes, bool(integer(node.attributes, "keepdims", 1))) if axes else x

    return of


def _product(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def _thresholded(node: Node, x: Tensor) -> Tensor:
    return torch.where(x > number(node.attributes, "alpha"), x, torch.zeros_like(x))


def _celu(node: Node, x: Tensor) -> Tensor:
    alpha = number(node.attributes, "alpha")
    return torch.clamp(x, min=0) + torch.clamp(alpha * torch.expm1(x / alpha), max=0)


def _selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = number(node.attributes, "alpha"), number(node.attributes, "gamma")
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x))


def _quantize(node: Node, x: Tensor) -> Tensor:
    """Divided, rounded half to even, and only then moved, as onnxruntime does it."""
    scale, zero = _grid(node, x)
    low, high = CODES[text(node.attributes, "type")]
    return torch.clamp(torch.round(x / scale) + zero, low, high)


def _bounded(node: Node, x: Tensor) -> Tensor:
    """The same without rounding."""
    scale, zero = _grid(node, x)
    return torch.clamp(x / scale + zero, *CODES[text(node.attributes, "type")])


def _dequantize(node: Node, x: Tensor) -> Tensor:
    scale, zero = _grid(node, x)
    return (x - zero) * scale


def _grid(node: Node, x: Tensor) -> tuple[Tensor, Tensor]:
    axis = integer(node.attributes, "axis", 0)
    spreads = (spread(floats(node.attributes, key), axis, tuple(x.shape)) for key in ("scale", "zero_point"))
    scale, zero = (torch.tensor(values, dtype=x.dtype) for values in spreads)
    return scale, zero


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Div": torch.div,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "Sub": torch.sub,
}
assert tuple(_BINARY) == BINARY

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": functional.hardswish,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Relu": functional.relu,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Swish": functional.silu,
    "Tanh": torch.tanh,
}
assert tuple(_UNARY) == UNARY


def _of_one(run: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda node, x: run(x)


def _of_two(run: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda node, a, b: run(a, b)


_RUN: dict[str, Callable[..., Tensor]] = {
    **{op_type: _of_one(run) for op_type, run in _UNARY.items()},
    **{op_type: _of_two(run) for op_type, run in _BINARY.items()},
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "BatchNormalization": _batchnorm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LRN": _lrn,
    "Gemm": lambda node, data, weight, bias=None: functional.linear(data, weight, bias),
    "MatMul": lambda node, a, b: torch.matmul(a, b),
    "GlobalAveragePool": lambda node, x: x.mean((2, 3), keepdim=True),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceProd": _reduced(_product),
    "ReduceSum": _reduced(torch.sum),
    "Pad": _pad,
    "Resize": _resize,
    "Concat": lambda node, *images: torch.cat(images, node.attributes["axis"]),
    "Expand": lambda node, x: x.expand(node.attributes["shape"]),
    "Slice": _slice,
    "ChannelShuffle": _shuffle,
    "Flatten": _flatten,
    "Reshape": lambda node, x: x.reshape(node.attributes["shape"]),
    "Transpose": lambda node, x: x.permute(node.attributes["perm"]),
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
    "Celu": _celu,
    "Clip": _clip,
    "Elu": lambda node, x: functional.elu(x, number(node.attributes, "alpha")),
    "Gelu": lambda node, x: functional.gelu(x, approximate=text(node.attributes, "approximate")),
    "HardSigmoid": _hard_sigmoid,
    "Identity": lambda node, x: x,
    "LeakyRelu": lambda node, x: functional.leaky_relu(x, number(node.attributes, "alpha")),
    "PRelu": lambda node, x, slope: torch.where(x < 0, x * slope, x),
    "Selu": _selu,
    "ThresholdedRelu": _thresholded,
    "LogSoftmax": lambda node, x: torch.log_softmax(x, node.attributes["axis"]),
    "Softmax": lambda node, x: torch.softmax(x, node.attributes["axis"]),
}
