"""The nodes of a file in an order in which they can run, and those of a branch in the place of their If."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

import onnx


def in_order(nodes: Sequence[onnx.NodeProto], known: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes, each behind those that it reads, otherwise as they stand; what reads itself comes last, as it stands.

    ONNX demands this order of a file, but not all tools keep to it. `known`: the tensors that no node makes.
    """
    made = set(known)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name and name not in made}
    waits_for = [{maker[name] for name in _reads(node) if name in maker} for node in nodes]
    readers: dict[int, list[int]] = {}
    for index, others in enumerate(waits_for):
        for other in others:
            readers.setdefault(other, []).append(index)
    ready = [index for index, others in enumerate(waits_for) if not others]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, ()):
            waits_for[reader].discard(index)
            if not waits_for[reader]:
                heapq.heappush(ready, reader)
    placed = set(order)
    return [nodes[index] for index in (*order, *(i for i in range(len(nodes)) if i not in placed))]


def inlined(body: onnx.GraphProto, prefix: str) -> onnx.GraphProto:
    """A copy of a branch in which what the branch makes has names of its own; what it reads from outside keeps its."""
    copy = onnx.GraphProto()
    copy.CopyFrom(body)
    inside = {name for node in copy.node for name in node.output if name} | {each.name for each in copy.initializer}
    _rename(copy, {name: f"{prefix}/{name}" for name in inside})
    return copy


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
        for inner in _graphs(node):
            _rename(inner, names)
    for value in (*graph.initializer, *graph.output):
        value.name = names.get(value.name, value.name)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, its branches included."""
    yield from node.input
    for graph in _graphs(node):
        for inner in graph.node:
            yield from _reads(inner)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
