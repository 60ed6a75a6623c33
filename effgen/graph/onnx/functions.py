"""A file's own functions: how much they come to, and the model with each call replaced by what it calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import onnx
from onnx import inliner

from effgen.errors import GraphError

#: Operators of a file, those of its functions counted for each call; bytes that the calls may come to; how deep
#: functions call each other.
MOST_NODES, MOST_CALLED_BYTES, DEEPEST = 20_000, 2**28, 32

_Key: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class _Cost:
    nodes: int = 0
    bytes: int = 0

    def __add__(self, other: _Cost) -> _Cost:
        return _Cost(self.nodes + other.nodes, self.bytes + other.bytes)


def without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, each call of its functions replaced. Raises GraphError where that is more than the limits above allow,
    where a function calls itself, and where onnx cannot do it."""
    called = _Calls(model)
    cost = called.cost(model.graph.node)
    if cost.nodes > MOST_NODES:
        unfolded = ", each call of a function unfolded" if model.functions else ""
        raise GraphError(f"has {cost.nodes:,} operators{unfolded}: expected at most {MOST_NODES:,}")
    if cost.bytes > MOST_CALLED_BYTES:
        raise GraphError(f"calls of its functions come to {cost.bytes:,} bytes: expected at most {MOST_CALLED_BYTES:,}")
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # C++ exceptions of several kinds, made RuntimeError and others
        raise GraphError(f"malformed functions: {' '.join(str(error).split())[:200]}") from None


class _Calls:
    """What calls of a model's functions come to: nodes and bytes when all are unfolded."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._functions = {_key(function): function for function in model.functions}
        self._known: dict[_Key, _Cost] = {}

    def cost(self, nodes: Iterable[onnx.NodeProto], callers: tuple[_Key, ...] = ()) -> _Cost:
        """Of these nodes, graphs inside them included. A function may put what a call states into each of its nodes."""
        total = _Cost()
        for node in _all_nodes(nodes):
            key = _key_of_call(node)
            if key in self._functions:
                called = self._called(key, callers)
                total += _Cost(called.nodes, called.bytes + node.ByteSize() * called.nodes)
            else:
                total += _Cost(1)
        return total

    def _called(self, key: _Key, callers: tuple[_Key, ...]) -> _Cost:
        if key in callers or len(callers) >= DEEPEST:
            what = "calls itself" if key in callers else f"is called more than {DEEPEST} functions deep"
            raise GraphError(f"function {key[1]} {what}: expected a network without recursion")
        if key not in self._known:
            function = self._functions[key]
            inner = self.cost(function.node, (*callers, key))
            self._known[key] = inner + _Cost(0, function.ByteSize())
        return self._known[key]


def _key(function: onnx.FunctionProto) -> _Key:
    return function.domain, function.name, function.overload


def _key_of_call(node: onnx.NodeProto) -> _Key:
    return node.domain, node.op_type, node.overload


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)
