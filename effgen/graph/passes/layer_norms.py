"""Layer normalisation that a file writes out, and the scale and bias behind one:

    d / Sqrt(Mean(d * d) + eps),  d = x - Mean(x)          becomes      LayerNormalization(x)
    LayerNormalization(x) * g, LayerNormalization(x) + b   becomes      LayerNormalization(x), with both in it

The means are along the last axes; along the channels of an image they are with its channels last.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Weights
from effgen.graph.ops import Shape, integer, ints
from effgen.graph.passes.rewriter import Rewriter

_CHANNELS_LAST, _CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def layer_norms(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph with one operator for each layer normalisation."""
    return _LayerNorms(graph, weights).run()


class _LayerNorms(Rewriter):
    def visit(self, node: Node) -> None:
        if node.op_type == "Div" and (found := self.written_out(node)) is not None:
            self.normalised(node.output, *found)
        elif node.op_type in ("Mul", "Add") and (pair := self.with_constant(node)) is not None:
            self.affine(node, *pair)
        else:
            self.keep(node)

    def written_out(self, node: Node) -> tuple[str, Shape, float] | None:
        """What is normalised, along which axes, and epsilon."""
        centred, root = self.maker(node.inputs[0]), self.only(node.inputs[1], "Sqrt")
        if centred is None or root is None or centred.op_type != "Sub":
            return None
        raised = self.only(root.inputs[0], "Add")
        pair = self.with_constant(raised) if raised is not None else None
        epsilon = self.number(pair[1]) if pair is not None else None
        variance = self.only(pair[0], "ReduceMean") if pair is not None else None
        mean = self.only(centred.inputs[1], "ReduceMean")
        if epsilon is None or variance is None or mean is None or mean.inputs[0] != centred.inputs[0]:
            return None
        square = self.only(variance.inputs[0], "Mul")
        if square is None or square.inputs != (centred.output, centred.output) or self.uses[centred.output] != 3:
            return None
        axes = ints(mean.attributes, "axes")
        if mean.attributes != variance.attributes or not integer(mean.attributes, "keepdims", 1):
            return None
        return centred.inputs[0], axes, float(np.float32(epsilon))

    def normalised(self, output: str, data: str, axes: Shape, epsilon: float) -> None:
        shape = self.shapes[data]
        along_channels = axes == (1,) and len(shape) == 4
        if not along_channels and axes != tuple(range(axes[0], len(shape))):
            self.keep_div(output)
            return
        if along_channels:
            data = self.before("Transpose", [data], f"{output}.last", perm=_CHANNELS_LAST)
        over = self.shapes[data][axes[0] if not along_channels else 3 :]
        ones = self.parameter(f"{output}.scale", np.ones(over, np.float32), "constant")
        attributes = {"axis": len(shape) - len(over), "epsilon": epsilon}
        if along_channels:
            normal = self.before("LayerNormalization", [data, ones], f"{output}.normal", **attributes)
            self.emit("Transpose", [normal], output, {"perm": _CHANNELS_FIRST})
        else:
            self.emit("LayerNormalization", [data, ones], output, attributes)

    def keep_div(self, output: str) -> None:
        self.keep(next(node for node in self.graph.nodes if node.output == output))

    def affine(self, node: Node, data: str, constant: str) -> None:
        norm = self.only(data)
        turned = norm if norm is not None and norm.op_type == "Transpose" else None
        norm = self.only(turned.inputs[0]) if turned is not None else norm
        if norm is None or norm.op_type != "LayerNormalization":
            self.keep(node)
            return
        array = self.weights[constant]
        if turned is not None:
            perm = ints(turned.attributes, "perm")
            array = array.transpose(tuple(perm.index(axis) for axis in range(len(perm))))
        axis, shape = integer(norm.attributes, "axis", 0), self.shapes[norm.output]
        if any(n != 1 for n in array.shape[:axis]) or self.shapes[node.output] != self.shapes[data]:
            self.keep(node)
            return
        array = np.broadcast_to(array.reshape(array.shape[axis:]), shape[axis:])
        inputs = self.changed(norm, node.op_type, array)
        if turned is None:
            self.keep(replace(norm, inputs=inputs, output=node.output))
        else:
            normal = self.before(norm.op_type, inputs, f"{node.output}.normal", **norm.attributes)
            self.keep(replace(turned, inputs=(normal,), output=node.output))

    def changed(self, norm: Node, op_type: str, array: NDArray[np.float32]) -> tuple[str, ...]:
        """The inputs of a norm multiplied by an array, or with it added."""
        arrays = [self.weights[name] for name in norm.inputs[1:]]
        if op_type == "Mul":
            arrays = [each * array for each in arrays]
        else:
            arrays = [arrays[0], arrays[1] + array if len(arrays) > 1 else array]
        names = ("scale", "bias")
        return (
            norm.inputs[0],
            *(
                self.parameter(f"{norm.output}.{name}", each, "constant")
                for name, each in zip(names, arrays, strict=False)
            ),
        )
