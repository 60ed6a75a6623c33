"""Linear layers between a pooled image and one again, as convolutions of one pixel:

    Reshape(Sigmoid(Gemm(Relu(Gemm(Flatten(x))))))   of (n, c, 1, 1)     becomes     Sigmoid(Conv(Relu(Conv(x))))

So squeeze-excite is the same to the compiler whether it was written with linear layers or with convolutions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Weights
from effgen.graph.ops import POINTWISE
from effgen.graph.passes.rewriter import Rewriter

#: What works on (n, c) as it does on (n, c, 1, 1).
_EITHER = POINTWISE | {"BatchNormalization"}


def linear_gates(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph with such chains of linear layers as convolutions."""
    return _Gates(graph, weights).run()


class _Gates(Rewriter):
    def visit(self, node: Node) -> None:
        shape = self.shapes[node.output]
        rows = self.shapes[node.inputs[0]]
        if node.op_type != "Reshape" or shape != (*rows, 1, 1) or len(rows) != 2:
            self.keep(node)
            return
        chain, name = [], node.inputs[0]
        while (maker := self.only(name)) is not None and (maker.op_type == "Gemm" or maker.op_type in _EITHER):
            chain.append(maker)
            name = maker.inputs[0]
        flat = self.maker(name)
        if not chain or flat is None or flat.op_type not in ("Flatten", "Reshape"):
            self.keep(node)
            return
        image = flat.inputs[0]
        if self.shapes[image] != (*self.shapes[name], 1, 1):
            self.keep(node)
            return
        for maker in reversed(chain):
            image = self.as_image(maker, image)
        self.alias(node.output, image)

    def as_image(self, maker: Node, image: str) -> str:
        if maker.op_type != "Gemm":
            return self.before(maker.op_type, (image, *maker.inputs[1:]), f"{maker.output}.image", **maker.attributes)
        weight = maker.inputs[1]
        kernel = self.parameter(f"{weight}.kernel", self.weights[weight][:, :, None, None], "kernel")
        inputs = (image, kernel, *maker.inputs[2:])
        return self.before("Conv", inputs, f"{maker.output}.image", group=1, pads=(0, 0, 0, 0), strides=(1, 1))
