"""The stage table of a scaled network: what each row of the spec costs, before anything is compiled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from effgen.graph import Graph, Node
from effgen.network import Network
from effgen.network.scaling import Coefficients
from effgen.network.spec import KEYS_OF_BLOCKS, HeadSpec, NetworkSpec, StageSpec, StemSpec

#: Operators whose output is a tensor of its own in memory. The others are element-wise and act in place, or are
#: fused into the operator before them.
_WRITES_A_TENSOR = ("Conv", "Gemm", "GlobalAveragePool", "MaxPool", "AveragePool", "Concat", "Slice", "ChannelShuffle")


@dataclass(frozen=True)
class StageRow:
    """One row of the table.

    `resolution_in` and `resolution_out` are pixels along a side, of the height where `width_in` and `width_out` are
    others; `channels` come out; `expand_ratio`, `se_ratio`
    and `kernel` are None where the row has none; `stride` is the convolution's, without that of a max pool.
    `parameters` are trainable ones, `macs` multiply-adds for ONE image, `activation_bytes` the float32 tensors that
    convolutions, pooling and the classifier write for a whole batch.
    """

    name: str
    operator: str
    kernel: int | None
    stride: int | None
    expand_ratio: float | None
    se_ratio: float | None
    channels: int
    repeats: int
    resolution_in: int
    resolution_out: int
    width_in: int
    width_out: int
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Baseline:
    """What a network was scaled from, and how many times as much it has: `macs_ratio` 4 is four times the MACs."""

    model: str
    parameters: int
    macs: int
    parameters_ratio: float
    macs_ratio: float


@dataclass(frozen=True)
class Inspection:
    """A network in numbers; units as in `StageRow`.

    `peak_activation_bytes` is the largest set of tensors alive at once when the operators run in order, element-wise
    ones in place: a lower bound of what a compiled library needs beside its weights. `baseline` None: nobody told it.
    """

    model: str
    law: str
    source: str
    coefficients: Coefficients
    batch: int
    resolution: int
    width: int
    classes: int
    norm_eps: float
    padding: str
    parameters: int
    weight_bytes: int
    macs: int
    activation_bytes: int
    peak_activation_bytes: int
    stages: tuple[StageRow, ...]
    baseline: Baseline | None


@dataclass(frozen=True)
class OperatorRow:
    """One kind of operator of a graph; units as in `StageRow`."""

    operator: str
    count: int
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class GraphInspection:
    """A graph that no spec describes in numbers; units as in `Inspection`."""

    model: str
    batch: int
    image: tuple[int, ...]
    parameters: int
    weight_bytes: int
    macs: int
    activation_bytes: int
    peak_activation_bytes: int
    operators: tuple[OperatorRow, ...]


def inspect_graph(title: str, graph: Graph) -> GraphInspection:
    """Count `graph` operator by operator, those with the most multiply-adds first."""
    kinds = dict.fromkeys(node.op_type for node in graph.nodes)
    rows = [_operator_row(graph, kind) for kind in kinds]
    return GraphInspection(
        model=title,
        batch=graph.batch,
        image=graph.input.shape[1:],
        parameters=graph.parameter_count,
        weight_bytes=sum(parameter.nbytes for parameter in graph.parameters.values()),
        macs=graph.macs,
        activation_bytes=sum(row.activation_bytes for row in rows),
        peak_activation_bytes=peak_activation_bytes(graph),
        operators=tuple(sorted(rows, key=lambda row: (-row.macs, -row.activation_bytes, row.operator))),
    )


def _operator_row(graph: Graph, kind: str) -> OperatorRow:
    nodes = [node for node in graph.nodes if node.op_type == kind]
    written = sum(graph.values[node.output].nbytes for node in nodes) if kind in _WRITES_A_TENSOR else 0
    macs = sum(graph.macs_of(node) for node in nodes) // graph.batch
    return OperatorRow(kind, len(nodes), _parameters(graph, nodes), macs, written)


def inspect_network(network: Network, baseline: Network | None = None) -> Inspection:
    """Count `network` row by row, beside the `baseline` that it was scaled from.

    Nothing is allocated or compiled: L2 takes as long as B0.
    """
    graph, spec = network.graph, network.spec
    scopes = list(dict.fromkeys(node.scope for node in graph.nodes))
    rows = tuple(_row(spec, graph, scope) for scope in scopes)
    return Inspection(
        model=network.title,
        law=network.coefficients.law,
        source=network.coefficients.source,
        coefficients=network.coefficients,
        batch=graph.batch,
        resolution=spec.input.resolution,
        width=spec.input.size[1],
        classes=spec.classifier.classes,
        norm_eps=spec.norm.eps,
        padding=spec.padding,
        parameters=graph.parameter_count,
        weight_bytes=sum(parameter.nbytes for parameter in graph.parameters.values()),
        macs=graph.macs,
        activation_bytes=sum(row.activation_bytes for row in rows),
        peak_activation_bytes=peak_activation_bytes(graph),
        stages=rows,
        baseline=None if baseline is None else _beside(graph, baseline),
    )


def _beside(graph: Graph, baseline: Network) -> Baseline:
    parameters, macs = baseline.graph.parameter_count, baseline.graph.macs
    return Baseline(baseline.title, parameters, macs, graph.parameter_count / parameters, graph.macs / macs)


def peak_activation_bytes(graph: Graph) -> int:
    """Bytes of the largest set of tensors alive at once, the input included, element-wise operators in place."""
    last_use = {name: step for step, node in enumerate(graph.nodes) for name in node.inputs}
    last_use |= dict.fromkeys(graph.outputs, len(graph.nodes))
    buffer_of = {graph.input.name: graph.input.name}
    alive = {graph.input.name: graph.input.nbytes}
    peak = 0
    for step, node in enumerate(graph.nodes):
        data = node.inputs[0]
        in_place = node.op_type not in _WRITES_A_TENSOR and last_use[data] == step
        buffer_of[node.output] = buffer_of[data] if in_place else node.output
        alive[buffer_of[node.output]] = graph.values[node.output].nbytes
        peak = max(peak, sum(alive.values()))
        for name in _activations(node.inputs, graph):
            if last_use[name] == step and buffer_of[name] != buffer_of[node.output]:
                alive.pop(buffer_of[name], None)
    return peak


def _activations(names: Iterable[str], graph: Graph) -> list[str]:
    return [name for name in names if name not in graph.parameters]


def _row(spec: NetworkSpec, graph: Graph, scope: str) -> StageRow:
    nodes = [node for node in graph.nodes if node.scope == scope]
    entry, exit_ = graph.values[nodes[0].inputs[0]].shape, graph.values[nodes[-1].output].shape
    part = _part(spec, scope)
    return StageRow(
        name=scope,
        operator=_operator(part, nodes),
        kernel=1 if isinstance(part, HeadSpec) else part.kernel if part else None,
        stride=1 if isinstance(part, HeadSpec) else part.stride if part else None,
        expand_ratio=_expand_ratio(part),
        se_ratio=part.squeeze_excite.ratio if isinstance(part, StageSpec) and part.squeeze_excite else None,
        channels=exit_[1],
        repeats=part.repeats if isinstance(part, StageSpec) else 1,
        resolution_in=_sides(entry)[0],
        resolution_out=_sides(exit_)[0],
        width_in=_sides(entry)[1],
        width_out=_sides(exit_)[1],
        parameters=_parameters(graph, nodes),
        macs=sum(graph.macs_of(node) for node in nodes) // graph.batch,
        activation_bytes=sum(graph.values[node.output].nbytes for node in nodes if node.op_type in _WRITES_A_TENSOR),
    )


def _part(spec: NetworkSpec, scope: str) -> StemSpec | StageSpec | HeadSpec | None:
    """The part of the spec that a scope was lowered from; None for the classifier and for a head that only pools."""
    if scope.startswith("stages."):
        return spec.stages[int(scope.removeprefix("stages."))]
    parts: dict[str, StemSpec | HeadSpec | None] = {"stem": spec.stem, "head": spec.head}
    return parts.get(scope)


def _expand_ratio(part: StemSpec | StageSpec | HeadSpec | None) -> float | None:
    if isinstance(part, StageSpec) and part.block in KEYS_OF_BLOCKS["expand_ratio"]:
        return part.expand_ratio
    return None


def _operator(part: StemSpec | StageSpec | HeadSpec | None, nodes: list[Node]) -> str:
    if isinstance(part, StageSpec):
        return part.block
    names = {"Conv": "conv", "MaxPool": "max pool", "GlobalAveragePool": "pool", "Gemm": "linear"}
    return " + ".join(names[node.op_type] for node in nodes if node.op_type in names)


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width in pixels; a feature vector is an image of one pixel."""
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


def _parameters(graph: Graph, nodes: list[Node]) -> int:
    names = {name for node in nodes for name in node.inputs if name in graph.parameters}
    return sum(graph.parameters[name].size for name in names if graph.parameters[name].trainable)
