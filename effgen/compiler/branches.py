"""Kernel calls -> fewer kernel calls, where an image is cut into channels for several branches, and joined again.

Slice -> depthwise, Slice -> depthwise, ... Concat      one MixedDepthwise kernel, Concat's activation inside
Concat -> ChannelShuffle [-> Slice, Slice]              one Interleave kernel, which writes the slices
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from effgen.compiler.calls import Call, KernelCall, OpCall
from effgen.graph import Graph
from effgen.graph.ops import ints
from effgen.graph.passes.join_groups import slices_of
from effgen.kernels.kinds.concat import Concat
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.interleave import Interleave
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise


def join_branches(calls: Sequence[Call], graph: Graph) -> tuple[Call, ...]:
    """The calls of `graph` joined, still in an order in which they can run."""
    joining = _Joining(calls, graph)
    for call in calls:
        if isinstance(call, KernelCall) and isinstance(call.workload, Concat):
            joining.mixed_depthwise(call, call.workload) or joining.interleave(call, call.workload)
    changed = (joining.changed.get(id(call), call) for call in calls)
    return tuple(call for call in changed if call is not None)


class _Joining:
    """`changed`: what stands in a call's place, by the call's identity; None: nothing."""

    def __init__(self, calls: Sequence[Call], graph: Graph) -> None:
        self.graph = graph
        self.producers = {node.output: node for node in graph.nodes}
        self.uses: Counter[str] = Counter(graph.outputs)
        self.maker: dict[str, Call] = {}
        self.readers: dict[str, list[Call]] = {}
        for call in calls:
            inputs = call.node.inputs if isinstance(call, OpCall) else call.inputs
            self.uses.update(inputs)
            for name in inputs:
                self.readers.setdefault(name, []).append(call)
            self.maker |= dict.fromkeys((call.node.output,) if isinstance(call, OpCall) else call.outputs, call)
        self.changed: dict[int, KernelCall | None] = {}

    def mixed_depthwise(self, concat: KernelCall, joined: Concat) -> bool:
        makers = [self.maker.get(name) for name in concat.inputs]
        parts = [call for call in makers if isinstance(call, KernelCall) and isinstance(call.workload, Conv2d)]
        found = slices_of(self.graph, self.producers, tuple(part.inputs[0] for part in parts))
        if found is None or len(parts) != len(makers) or joined.affine:
            return False
        slices, image = found
        read_once = [name for part in parts for name in (*part.inputs, *part.outputs)]
        convs = [part.layers[0].conv for part in parts]
        plain = all(conv.family == "depthwise" and conv.activation == "none" and not conv.residual for conv in convs)
        alike = len({(conv.data_shape[:3], conv.stride) for conv in convs}) == 1
        if not plain or not alike or any(self.uses[name] != 1 for name in read_once):
            return False
        layers = tuple(
            replace(layer, conv=replace(layer.conv, activation=joined.activation))
            for part in parts
            for layer in part.layers
        )
        workload = MixedDepthwise(tuple(layer.conv for layer in layers))
        self.drop(*parts, *(self.maker[node.output] for node in slices))
        self.changed[id(concat)] = KernelCall(workload, (image,), concat.outputs, layers)
        return True

    def interleave(self, concat: KernelCall, joined: Concat) -> bool:
        shuffle = self.only_reader(concat.outputs[0])
        if not isinstance(shuffle, OpCall) or shuffle.node.op_type != "ChannelShuffle":
            return False
        count, channels = len(joined.parts), joined.parts[0]
        if joined.affine or joined.activation != "none" or set(joined.parts) != {channels} or count < 2:
            return False
        if shuffle.node.attributes["group"] != count:
            return False
        whole = shuffle.node.output
        readers = [call.node for call in self.readers.get(whole, []) if isinstance(call, OpCall)]
        slices = [node for node in readers if node.op_type == "Slice"]
        slices.sort(key=lambda node: ints(node.attributes, "starts", ()))
        found = slices_of(self.graph, self.producers, tuple(node.output for node in slices))
        outputs: tuple[str, ...] = (whole,)
        cuts: tuple[int, ...] = (channels * count,)
        if found is not None and len(slices) == self.uses[whole]:
            parts = tuple(self.graph.values[node.output].shape[1] for node in slices)
            if all(part % count == 0 for part in parts):
                outputs, cuts = tuple(node.output for node in slices), parts
                self.drop(*(self.maker[name] for name in outputs))
        workload = Interleave(joined.batch, joined.height, joined.width, channels, count, cuts)
        self.changed[id(concat)] = KernelCall(workload, concat.inputs, outputs)
        self.drop(shuffle)
        return True

    def only_reader(self, tensor: str) -> Call | None:
        return self.readers[tensor][0] if self.uses[tensor] == 1 and tensor in self.readers else None

    def drop(self, *calls: Call) -> None:
        for call in calls:
            self.changed[id(call)] = None
