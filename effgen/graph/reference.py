"""The same Graph executed by PyTorch: the judge of every result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from effgen.graph import Graph, Node, Weights, check_weights
from effgen.graph.ops import number


class GraphModule(torch.nn.Module):  # type: ignore[misc]
    """A torch module that runs `graph` operator by operator, NCHW, with `weights` as frozen parameters."""

    def __init__(self, graph: Graph, weights: Weights, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        check_weights(graph, weights)
        self._nodes = graph.nodes
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


def reference_outputs(graph: Graph, weights: Weights, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """As `run_reference` of a graph with any number of outputs, in their order."""
    module = GraphModule(graph, weights).eval()
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


def _clip(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(x, number(node.attributes, "min"), number(node.attributes, "max"))


def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(x * number(node.attributes, "alpha") + number(node.attributes, "beta"), 0.0, 1.0)


_RUN: dict[str, Callable[..., Tensor]] = {
    "Conv": _conv,
    "BatchNormalization": _batchnorm,
    "Gemm": lambda node, data, weight, bias=None: functional.linear(data, weight, bias),
    "GlobalAveragePool": lambda node, x: x.mean((2, 3), keepdim=True),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "Concat": lambda node, *images: torch.cat(images, node.attributes["axis"]),
    "Slice": lambda node, x: x[:, node.attributes["start"] : node.attributes["end"]],
    "ChannelShuffle": _shuffle,
    "Flatten": lambda node, x: x.flatten(node.attributes["axis"]),
    "Add": lambda node, a, b: a + b,
    "Mul": lambda node, a, b: a * b,
    "Identity": lambda node, x: x,
    "Sigmoid": lambda node, x: torch.sigmoid(x),
    "Swish": lambda node, x: functional.silu(x),
    "Relu": lambda node, x: functional.relu(x),
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node, x: functional.hardswish(x),
    "LeakyRelu": lambda node, x: functional.leaky_relu(x, number(node.attributes, "alpha")),
    "Softmax": lambda node, x: torch.softmax(x, node.attributes["axis"]),
}
