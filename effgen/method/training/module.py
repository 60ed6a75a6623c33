"""The Graph as a network that learns: the operators of the judge, and what they do differently in training."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from torch.nn import functional

from effgen.graph import Graph, Node
from effgen.graph.ops import number
from effgen.graph.reference import GraphModule
from effgen.network.spec import NetworkSpec
from effgen.network.weights import initial_weights

#: What a block's tensors are called, e.g. `stages.1.0.project.conv`; the sum at its end is `stages.1.0.skip`.
_BLOCK = re.compile(r"stages\.\d+\.\d+\b")
_SKIP = ".skip"


class TrainableNetwork(GraphModule):
    """An unfolded graph with seeded initial weights: `image` (batch, channels, height, width) -> logits.

    In training mode batch norms use the batch's statistics and move the running ones by the spec's momentum, the
    classifier's input has dropout, and a skip leaves its block out at the drop-connect rate, picture by picture, and
    else divides it by the rate of staying (stochastic depth; paper, section 5). In evaluation mode it is the judge. The
    batch is as large as the image's: the graph's does not matter.
    """

    def __init__(
        self, graph: Graph, spec: NetworkSpec, drop_connect: float, seed: int, generator: torch.Generator
    ) -> None:
        """`drop_connect` is the rate that the last block nearly has, `seed` that of the initial weights; `generator`,
        of what is left out, lives on the device that the network will run on."""
        super().__init__(graph, initial_weights(graph, seed))
        self._momentum = spec.norm.momentum
        self._dropout = spec.classifier.dropout
        self._drop_rates = drop_rates(graph, drop_connect)
        self._generator = generator
        for name, tensor in self.tensors().items():
            tensor.requires_grad_(graph.parameters[name].trainable)

    def run(self, node: Node, *operands: Tensor) -> Tensor:
        """One operator's output, as the mode asks."""
        if self.training:
            if node.op_type == "BatchNormalization":
                return self._batch_norm(node, *operands)
            if node.op_type == "Gemm" and self._dropout:
                data, *rest = operands
                return super().run(node, data * self._kept(data.shape, self._dropout, data), *rest)
            if rate := self._drop_rates.get(node.output):
                block, shortcut = operands
                return block * self._kept((len(block), 1, 1, 1), rate, block) + shortcut
        return super().run(node, *operands)

    def _batch_norm(self, node: Node, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        eps = number(node.attributes, "epsilon")
        return functional.batch_norm(x, mean, var, scale, shift, training=True, momentum=self._momentum, eps=eps)

    def _kept(self, shape: tuple[int, ...], rate: float, like: Tensor) -> Tensor:
        """Zeros at `rate`, elsewhere what keeps the mean."""
        kept = torch.empty(shape, dtype=like.dtype, device=like.device)
        return kept.bernoulli_(1 - rate, generator=self._generator).div_(1 - rate)


def drop_rates(graph: Graph, last: float) -> dict[str, float]:
    """The sum of each skip -> the rate at which its block is left out: block i of n, counted from 0 and those without a
    skip too, has `last` * i / n."""
    blocks = list(dict.fromkeys(found[0] for node in graph.nodes if (found := _BLOCK.match(node.output))))
    sums = {node.output for node in graph.nodes if node.op_type == "Add" and node.output.endswith(_SKIP)}
    rates = {f"{block}{_SKIP}": last * index / len(blocks) for index, block in enumerate(blocks)}
    return {name: rate for name, rate in rates.items() if name in sums and rate > 0}
