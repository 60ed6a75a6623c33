"""Constant borders of an image as the pads of what reads it:

Conv(Pad(x, 0))                         becomes      Conv(x), its pads larger
AveragePool(Pad(x, 0))                  becomes      AveragePool(x), its pads larger and counted
MaxPool(Pad(x, 0)), x never below 0     becomes      MaxPool(x), its pads larger; so does one with the least number
Pad(Pad(x, v), v)                       becomes      Pad(x, v)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effgen.errors import GraphError
from effgen.graph import Graph, Node, Weights
from effgen.graph.ops import OPS, integer, ints, number, text
from effgen.graph.passes.rewriter import Rewriter

#: What gives no value below zero: a window's maximum is then the same with zeros around the image.
_NOT_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Abs", "Exp", "Softplus", "Sqrt")
_LEAST = float(np.finfo(np.float32).min)


def fuse_pads(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph with a Pad only where what reads it has no pads of that kind."""
    return _PadFusion(graph, weights).run()


class _PadFusion(Rewriter):
    def visit(self, node: Node) -> None:
        pad = self.maker(node.inputs[0])
        fused = None
        if pad is not None and pad.op_type == "Pad" and text(pad.attributes, "mode") == "constant":
            fused = self.fused(node, pad)
        self.keep(fused if fused is not None and self.fits(fused) else node)

    def fits(self, node: Node) -> bool:
        """Pooling takes no pads as large as its window."""
        try:
            OPS[node.op_type].infer([self.shapes[name] for name in node.inputs], node.attributes)
        except GraphError:
            return False
        return True

    def fused(self, node: Node, pad: Node) -> Node | None:
        value, pads = number(pad.attributes, "value"), ints(pad.attributes, "pads")
        if node.op_type == "Pad":
            same = text(node.attributes, "mode") == "constant" and number(node.attributes, "value") == value
            total = tuple(a + b for a, b in zip(pads, ints(node.attributes, "pads"), strict=True))
            return replace(node, inputs=pad.inputs, attributes={**node.attributes, "pads": total}) if same else None
        if len(pads) != 8 or any(pads[:2]) or any(pads[4:6]):
            return None
        border = (*pads[2:4], *pads[6:8])
        match node.op_type:
            case "Conv":
                return self.wider(node, pad, border) if value == 0 else None
            case "AveragePool":
                return self.wider_mean(node, pad, border) if value == 0 else None
            case "MaxPool":
                return self.wider(node, pad, border) if self.never_above(pad.inputs[0], value) else None
        return None

    def wider(self, node: Node, pad: Node, border: tuple[int, ...]) -> Node:
        own = ints(node.attributes, "pads")
        pads = tuple(a + b for a, b in zip(own, border, strict=True))
        return replace(node, inputs=(pad.inputs[0], *node.inputs[1:]), attributes={**node.attributes, "pads": pads})

    def wider_mean(self, node: Node, pad: Node, border: tuple[int, ...]) -> Node | None:
        """The Graph has one set of pads: counted, as the zeros around the image are, or not."""
        if any(ints(node.attributes, "pads")) and not integer(node.attributes, "count_include_pad", 0):
            return None
        wider = self.wider(node, pad, border)
        return replace(wider, attributes={**wider.attributes, "count_include_pad": 1})

    def never_above(self, name: str, value: float) -> bool:
        maker = self.maker(name)
        return value <= _LEAST or (value == 0 and maker is not None and maker.op_type in _NOT_NEGATIVE)
