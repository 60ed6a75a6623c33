"""The bytes that a network needs on a machine, planned over its kernel calls before any of them is compiled.

Weights lie packed one after the other, and so do blocks of memory (`FlatLayout`, by which the compiler lays them out).
Activations share blocks as TVM's StaticPlanBlockMemory assigns them: a tensor takes the smallest free block that holds
it, else makes the largest free one larger, else gets one of its own; blocks of more or less than 16 times its size are
no candidates; a block is free once the last call that reads it has run. The compiler has TVM plan; its planner cannot
be asked without a module of kernels, so the rule is said here once more, and a test holds both to the same bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from effgen.compiler.blocks import kernel_calls
from effgen.compiler.calls import Call, KernelCall
from effgen.compiler.repertoire import kernels_for
from effgen.graph import FLOAT32_BYTES, Graph
from effgen.graph.passes.fold_batchnorm import folded_graph
from effgen.kernels.packing import bias_shape, weight_shape
from effgen.machines.machine import Machine
from effgen.runtime.arrays import FlatLayout

#: How many times larger or smaller than a tensor a free block may be.
_MATCH_RANGE = 16

#: Nodes that are another view of their input's bytes.
_VIEWS = ("Flatten", "Identity")


@dataclass(frozen=True)
class Footprint:
    """Bytes: the packed weights (`weights.bin`), the planned activations (the manifest's `workspace_bytes`), the image
    and the outputs of one call; `kernels` is how many different kernels the code holds."""

    weights: int
    workspace: int
    image: int
    outputs: int
    kernels: int

    @property
    def memory(self) -> int:
        """What a call needs beside the code."""
        return self.weights + self.workspace + self.image + self.outputs


def footprint(graph: Graph, machine: Machine) -> Footprint:
    """Plan `graph`, batch norms unfolded as it was lowered, in float32. Exact where all its nodes are kernels of ours
    on a CPU; an operator that TVM computes is counted with a tensor of its own, which TVM may fuse away."""
    folded = folded_graph(graph)
    calls = kernel_calls(folded, kernels_for(machine))
    planner = _Planner(folded)
    return Footprint(
        weights=FlatLayout(_constant_sizes(calls, folded, machine)).bytes,
        workspace=FlatLayout(planner.run(calls)).bytes,
        image=graph.input.nbytes,
        outputs=sum(graph.values[name].nbytes for name in planner.returned),
        kernels=len({call.workload for call in calls if isinstance(call, KernelCall)}),
    )


def _constant_sizes(calls: Sequence[Call], graph: Graph, machine: Machine) -> Iterator[int]:
    layers = dict.fromkeys(layer for call in calls if isinstance(call, KernelCall) for layer in call.layers)
    for layer in layers:
        yield prod(weight_shape(layer.conv, machine)) * FLOAT32_BYTES
        yield prod(bias_shape(layer.conv, machine)) * FLOAT32_BYTES
    for call in calls:
        if isinstance(call, KernelCall):
            # Factor and summand of a batch norm that no convolution took.
            yield from () if call.norm is None else (graph.parameters[call.norm.inputs[1]].nbytes,) * 2
        else:
            yield from (graph.parameters[name].nbytes for name in call.node.inputs if name in graph.parameters)


@dataclass
class _Block:
    """A stretch of the workspace: its bytes."""

    size: int


class _Planner:
    """Runs through the calls once; `held` maps a tensor to its block as long as it is needed.
    `returned` are the tensors that are outputs, whatever these are called."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.blocks: list[_Block] = []
        self.free: list[_Block] = []
        self.held: dict[str, _Block] = {}
        self.alias: dict[str, str] = {}
        self.readers: Counter[str] = Counter()
        self.returned: set[str] = set()

    def run(self, calls: Sequence[Call]) -> list[int]:
        """Bytes of each block."""
        kept = [call for call in calls if not self._is_view(call)]
        inputs = [[self.alias.get(name, name) for name in _inputs(call)] for call in kept]
        self.readers = Counter(name for names in inputs for name in names)
        self.returned = {self.alias.get(name, name) for name in self.graph.outputs}
        for call, names in zip(kept, inputs, strict=True):
            for name, size in self._outputs(call).items():
                if name not in self.returned:
                    self.held[name] = self._taken(size)
            self._read(names)
        return [block.size for block in self.blocks]

    def _is_view(self, call: Call) -> bool:
        if isinstance(call, KernelCall) or call.node.op_type not in _VIEWS:
            return False
        source = call.node.inputs[0]
        self.alias[call.node.output] = self.alias.get(source, source)
        return True

    def _outputs(self, call: Call) -> Mapping[str, int]:
        """Bytes of each tensor that a call writes."""
        if not isinstance(call, KernelCall):
            return {call.node.output: self.graph.values[call.node.output].nbytes}
        sizes = (prod(shape) * FLOAT32_BYTES for shape in call.workload.out_shapes)
        return dict(zip(call.outputs, sizes, strict=True))

    def _taken(self, size: int) -> _Block:
        """A free block that is made to hold `size` bytes, or a new one."""
        at = bisect_left(self.free, size, key=_size)
        if at < len(self.free) and self.free[at].size <= size * _MATCH_RANGE:
            return self.free.pop(at)
        if at > 0 and self.free[at - 1].size >= size // _MATCH_RANGE:
            block = self.free.pop(at - 1)
            block.size = size
            return block
        self.blocks.append(_Block(size))
        return self.blocks[-1]

    def _read(self, names: Iterable[str]) -> None:
        for name in names:
            self.readers[name] -= 1
            if self.readers[name] == 0 and name in self.held:
                block = self.held.pop(name)
                # Behind those of its size: the one that has been free longest is taken first.
                self.free.insert(bisect_right(self.free, block.size, key=_size), block)


def _size(block: _Block) -> int:
    return block.size


def _inputs(call: Call) -> Sequence[str]:
    return call.inputs if isinstance(call, KernelCall) else call.node.inputs
