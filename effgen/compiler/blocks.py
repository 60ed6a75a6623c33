"""Kernel calls -> fewer kernel calls: what a block of squeeze-excite and depthwise convolutions need not write down.

    depthwise -> GlobalAveragePool -> dense -> dense     the depthwise kernel sums its rows as it writes them, and one
                                                         SqueezeExcite kernel makes the gate of the sums
    ChannelScale -> pointwise                            the gate is applied inside the pointwise kernel
    pointwise or stem -> depthwise                       one ExpandDepthwise kernel, by bands of rows

What cuts an image and joins it again is `effgen.compiler.branches`, before that; codes are `effgen.compiler.codes`.

Each needs that nothing else reads the tensor between the two. Then kernels with time to spare are told which weights
will be read next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from effgen.compiler.branches import join_branches
from effgen.compiler.calls import Call, KernelCall, Layer, OpCall, calls_from_graph
from effgen.compiler.codes import multiplied, rounded
from effgen.compiler.repertoire import CPU_KERNELS, Repertoire
from effgen.graph import Graph
from effgen.graph.passes.fold_batchnorm import folded_graph
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.workload import AnyWorkload, Workload

# A layer's weights are worth asking for if they are so many (64 KiB), and so few rows of an image use them.
_MANY_WEIGHTS, _FEW_ROWS = 16 * 1024, 512
# Multiply-adds of a kernel behind which asking for one weight hides.
_HIDDEN_BEHIND = 15


def kernel_calls(graph: Graph, kernels: Repertoire = CPU_KERNELS) -> tuple[Call, ...]:
    """What runs for `graph`, in order: its kernels, joined as far as they go, and the nodes that no kernel computes."""
    calls = calls_from_graph(graph, kernels)
    calls = join_branches(calls, graph) if kernels.joins_branches else calls
    calls = multiplied(calls, graph, kernels.dot) if kernels.dot else calls
    calls = fuse_blocks(calls, graph.outputs, expand=kernels.expands)
    calls = rounded(calls, graph, kernels.dot) if kernels.dot else calls
    return look_ahead(calls) if kernels.looks_ahead else calls


def kernel_counts(graph: Graph, kernels: Repertoire = CPU_KERNELS) -> Counter[Workload]:
    """How often one run of `graph`, its batch norms folded first, calls each kernel, in the order of first calls."""
    calls = kernel_calls(folded_graph(graph), kernels)
    return Counter(call.workload for call in calls if isinstance(call, KernelCall))


def fuse_blocks(calls: Sequence[Call], outputs: tuple[str, ...], expand: bool = True) -> tuple[Call, ...]:
    """The calls joined, still in an order in which they can run; `outputs` are the graph's and stay. `expand`: whether
    depthwise kernels take the convolution before them."""
    calls = _Calls(calls, outputs).rewritten(GlobalAveragePool, _squeeze_excite)
    calls = _Calls(calls, outputs).rewritten(ChannelScale, _gate_into_pointwise)
    return _Calls(calls, outputs).rewritten(Conv2d, _expand_into_depthwise) if expand else calls


def typed_calls(calls: Sequence[Call], dtype: str) -> tuple[Call, ...]:
    """The same calls on activations and weights of type `dtype`, those of codes apart."""
    if dtype == "float32":
        return tuple(calls)
    return tuple(_typed(call, dtype) if isinstance(call, KernelCall) else call for call in calls)


def _typed(call: KernelCall, dtype: str) -> KernelCall:
    layers = tuple(replace(layer, conv=replace(layer.conv, dtype=dtype)) for layer in call.layers)
    ahead = tuple(replace(layer, conv=replace(layer.conv, dtype=dtype)) for layer in call.ahead)
    return replace(call, workload=call.workload.with_dtype(dtype), layers=layers, ahead=ahead)


class _Calls:
    """The calls of a graph, and who makes and reads each tensor; `drop` and `put` collect a rewrite's changes."""

    def __init__(self, calls: Sequence[Call], outputs: tuple[str, ...]) -> None:
        self.calls = calls
        self.uses = Counter(outputs)
        self.maker: dict[str, KernelCall] = {}
        self.reader: dict[str, KernelCall] = {}
        for call in calls:
            self.uses.update(call.node.inputs if isinstance(call, OpCall) else call.inputs)
            if isinstance(call, KernelCall):
                self.maker |= dict.fromkeys(call.outputs, call)
                self.reader |= dict.fromkeys(call.inputs, call)
        self._changed: dict[int, KernelCall | None] = {}

    def rewritten(
        self, kind: type[AnyWorkload], rewrite: Callable[[_Calls, KernelCall, AnyWorkload], None]
    ) -> tuple[Call, ...]:
        """All calls after `rewrite` has seen each call of a kernel of this kind."""
        for call in self.calls:
            if isinstance(call, KernelCall) and isinstance(call.workload, kind):
                rewrite(self, call, call.workload)
        changed = [self._changed.get(id(call), call) for call in self.calls]
        return tuple(call for call in changed if call is not None)

    def only_reader(self, tensor: str) -> KernelCall | None:
        return self.reader.get(tensor) if self.uses[tensor] == 1 else None

    def drop(self, *calls: KernelCall) -> None:
        for call in calls:
            self._changed[id(call)] = None

    def put(self, old: KernelCall, new: KernelCall) -> None:
        """`new` in the place of `old`."""
        self._changed[id(old)] = new


def _squeeze_excite(calls: _Calls, pool: KernelCall, whole: GlobalAveragePool) -> None:
    image = calls.maker.get(pool.inputs[0])
    squeeze = calls.only_reader(pool.outputs[0])
    excite = calls.only_reader(squeeze.outputs[0]) if squeeze else None
    if image is None or squeeze is None or excite is None:
        return
    first, second, summed = _convolution(squeeze), _convolution(excite), _with_row_sums(image.workload)
    if summed is None or first is None or second is None:
        return
    fused = SqueezeExcite(
        whole.batch, whole.height, whole.width, whole.channels, first.out_channels, first.activation, second.activation
    )
    # Anything unusual (a residual, a stride) makes a layer differ from the plain one.
    if (first, second) != (fused.squeeze, fused.excite):
        return
    sums = f"{image.outputs[0]}.row_sums"
    calls.put(image, replace(image, workload=summed, outputs=(*image.outputs, sums)))
    calls.drop(pool, squeeze)
    calls.put(excite, KernelCall(fused, (sums,), excite.outputs, squeeze.layers + excite.layers))


def _with_row_sums(workload: Workload) -> Workload | None:
    """The depthwise convolutions that sum their rows besides; None for anything else."""
    if isinstance(workload, MixedDepthwise):
        return workload.with_row_sums()
    if isinstance(workload, Conv2d) and workload.family == "depthwise":
        return replace(workload, row_sums=True)
    return None


def _gate_into_pointwise(calls: _Calls, scale: KernelCall, gating: ChannelScale) -> None:
    reader = None if gating.reads_codes else calls.only_reader(scale.outputs[0])
    if reader is None or reader.inputs[0] != scale.outputs[0]:
        return
    conv = _convolution(reader)
    if conv is None or conv.family != "pointwise" or conv.gated:
        return
    data, gate = scale.inputs
    calls.drop(scale)
    calls.put(reader, replace(reader, workload=replace(conv, gated=True), inputs=(data, gate, *reader.inputs[1:])))


def _expand_into_depthwise(calls: _Calls, expand: KernelCall, conv: Conv2d) -> None:
    if conv.gated or conv.residual:
        return
    if conv.family != "pointwise" and not (conv.is_stem and conv.dilation == (1, 1)):
        return
    reader = calls.only_reader(expand.outputs[0])
    depthwise = _convolution(reader)
    if reader is None or depthwise is None or depthwise.family != "depthwise" or len(reader.inputs) > 1:
        return
    calls.drop(expand)
    fused = ExpandDepthwise(conv, depthwise)
    calls.put(reader, KernelCall(fused, expand.inputs, reader.outputs, expand.layers + reader.layers))


def _convolution(call: KernelCall | None) -> Conv2d | None:
    """What the call computes if it is one convolution."""
    return call.workload if call is not None and isinstance(call.workload, Conv2d) else None


def look_ahead(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The calls, those with time to spare asking for the weights that are read until the next such call, and by it.

    Weights that few rows use take longer to come from memory than to use. While a matrix product runs, memory rests.
    Those of a window with many go through the near caches whole and drive out what was asked for: it asks for its own.
    """
    found: list[Call] = []
    wanted: list[Layer] = []
    for call in reversed(calls):
        if isinstance(call, KernelCall):
            ahead = _hidden(call, wanted) if call.workload.looks_ahead else ()
            found.append(replace(call, ahead=ahead))
            awaited = [layer for layer in call.layers if _is_awaited(layer)]
            if any(layer.conv.family == "conv2d" for layer in awaited):
                awaited, wanted = [], []
            wanted = awaited + ([] if ahead else wanted)
        else:
            found.append(call)
    return tuple(reversed(found))


def _hidden(call: KernelCall, wanted: Sequence[Layer]) -> tuple[Layer, ...]:
    """The first of `wanted`, as many as the call has enough to do itself to hide that it asks for them.

    The others are nobody's then: asked for earlier, they would drive out what is read before them.
    """
    asked = 0
    for index, layer in enumerate(wanted):
        asked += layer.conv.in_channels * layer.conv.out_channels
        if call.workload.macs < _HIDDEN_BEHIND * asked:
            return tuple(wanted[:index])
    return tuple(wanted)


def _is_awaited(layer: Layer) -> bool:
    conv = layer.conv
    weights = conv.in_channels // conv.groups * conv.out_channels
    if conv.multiplies_codes:
        return False
    return weights >= _MANY_WEIGHTS and conv.rows // conv.batch <= _FEW_ROWS
