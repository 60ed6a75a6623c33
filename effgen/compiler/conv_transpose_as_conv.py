"""Transposed convolutions as convolutions and a move, so that the kernels of convolutions compute them:

    ConvTranspose(x, w)  of strides s     becomes     Slice(pixels of blocks(Conv(x, w')))

A pixel of the result depends on its place in a block of s pixels by which rows and columns of the kernel meet it: the
convolution computes all places of a block as channels of their own, which then take their places. No multiplication by
zero is added but where the strides do not divide the kernel. (Shi et al., arXiv 1609.07009, say it the other way
round.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Weights
from effgen.graph.ops import Shape, integer, ints
from effgen.graph.passes.rewriter import Rewriter


def conv_transpose_as_conv(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph without ConvTranspose, and its weights with the kernels that take their place."""
    if not any(node.op_type == "ConvTranspose" for node in graph.nodes):
        return graph, dict(weights)
    return _Transposed(graph, weights).run()


@dataclass(frozen=True)
class _Axis:
    """One axis: pixels of the image, the kernel's reach with its dilation, strides, what is cut off before, and the
    pixels wanted. The convolution has `taps` and gives `blocks`."""

    size: int
    reach: int
    stride: int
    cut: int
    wanted: int

    @property
    def taps(self) -> int:
        return -(-self.reach // self.stride)

    @property
    def blocks(self) -> int:
        return -(-(self.wanted + self.cut) // self.stride)

    @property
    def pads(self) -> tuple[int, int]:
        """Zeros before and behind the image: less than none are not needed, blocks beyond are cut off."""
        return self.taps - 1, max(self.blocks - self.size, 0)

    @property
    def found(self) -> int:
        """Blocks that the convolution gives."""
        return self.size + sum(self.pads) - self.taps + 1


class _Transposed(Rewriter):
    def visit(self, node: Node) -> None:
        if node.op_type != "ConvTranspose":
            self.keep(node)
            return
        group, (n, c_out, h, w) = integer(node.attributes, "group", 1), self.shapes[node.output]
        axes = self.axes(node, (h, w))
        blocks = self.convolution(node, axes, group)
        down, across = axes
        each = c_out // group
        split = (n, group, down.stride, across.stride, each, down.found, across.found)
        image = self.before("Reshape", [blocks], f"{node.output}.split", shape=split)
        image = self.before("Transpose", [image], f"{node.output}.moved", perm=(0, 1, 4, 5, 2, 6, 3))
        whole = (n, c_out, down.found * down.stride, across.found * across.stride)
        cuts = {2: (down.cut, down.cut + h), 3: (across.cut, across.cut + w)}
        kept = {axis: cut for axis, cut in cuts.items() if cut != (0, whole[axis])}
        if not kept:
            self.emit("Reshape", [image], node.output, {"shape": whole})
            return
        image = self.before("Reshape", [image], f"{node.output}.whole", shape=whole)
        starts, ends = zip(*kept.values(), strict=True)
        cut = {"axes": tuple(kept), "starts": starts, "ends": ends, "steps": (1,) * len(kept)}
        self.emit("Slice", [image], node.output, cut)

    def axes(self, node: Node, wanted: tuple[int, int]) -> tuple[_Axis, _Axis]:
        data, kernel = (self.shapes[name][2:] for name in node.inputs[:2])
        strides, pads = ints(node.attributes, "strides"), ints(node.attributes, "pads")
        dilations = ints(node.attributes, "dilations", (1, 1))
        down, across = (
            _Axis(data[i], (kernel[i] - 1) * dilations[i] + 1, strides[i], pads[i], wanted[i]) for i in (0, 1)
        )
        return down, across

    def convolution(self, node: Node, axes: tuple[_Axis, _Axis], group: int) -> str:
        kernel = self.weights[node.inputs[1]]
        spread = _spread(kernel, ints(node.attributes, "dilations", (1, 1)))
        inputs = [node.inputs[0], self.parameter(f"{node.inputs[1]}.blocks", _by_place(spread, axes, group), "kernel")]
        down, across = axes
        if len(node.inputs) == 3:
            bias = self.weights[node.inputs[2]].reshape(group, 1, -1)
            places = down.stride * across.stride
            inputs.append(self.parameter(f"{node.inputs[2]}.blocks", np.repeat(bias, places, 1).reshape(-1), "bias"))
        pads: Shape = (down.pads[0], across.pads[0], down.pads[1], across.pads[1])
        return self.before("Conv", inputs, f"{node.output}.blocks", group=group, pads=pads, strides=(1, 1))


def _spread(kernel: NDArray[np.float32], dilations: Shape) -> NDArray[np.float32]:
    """`[in, out / group, kh, kw]` with the zeros between its rows and columns."""
    height, width = (n * step - step + 1 for n, step in zip(kernel.shape[2:], dilations, strict=True))
    spread = np.zeros((*kernel.shape[:2], height, width), np.float32)
    spread[:, :, :: dilations[0], :: dilations[1]] = kernel
    return spread


def _by_place(kernel: NDArray[np.float32], axes: tuple[_Axis, _Axis], group: int) -> NDArray[np.float32]:
    """Kernels `[group x places x out / group, in / group, taps, taps]` of the convolution: that of place (y, x) has
    each stride-th row and column of the kernel from there, the last first."""
    down, across = axes
    c_in, each = kernel.shape[:2]
    full = np.zeros((c_in, each, down.taps * down.stride, across.taps * across.stride), np.float32)
    full[:, :, : kernel.shape[2], : kernel.shape[3]] = kernel
    shape = (group, c_in // group, each, down.taps, down.stride, across.taps, across.stride)
    places = full.reshape(shape)[:, :, :, ::-1, :, ::-1, :]
    ordered = places.transpose(0, 4, 6, 2, 1, 3, 5)
    outputs = math.prod(ordered.shape[:4])
    return np.ascontiguousarray(ordered.reshape(outputs, c_in // group, down.taps, across.taps))
