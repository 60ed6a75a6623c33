"""Activations that a file says in several operators:

    x * Sigmoid(x)                                        becomes      Swish(x)
    x * HardSigmoid(x)   with alpha 1/6, beta 1/2         becomes      HardSwish(x)
    Clip(x + 3, 0, 6) / 6,  Clip(x / 6 + 1/2, 0, 1)       becomes      HardSigmoid(x)
    x * Clip(x + 3, 0, 6) / 6                             becomes      HardSwish(x)
    x * (1 + Erf(x / sqrt 2)) / 2                         becomes      Gelu(x)
    x * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2 becomes      Gelu(x), approximate = tanh
    Log(Exp(x) + 1)                                       becomes      Softplus(x)
    x * Tanh(Softplus(x))                                 becomes      Mish(x)
    Clip(Clip(x)),  Clip(Relu(x)),  Relu(Clip(x))         becomes      Clip(x)

Products in any order and grouping; each where nothing else reads what is between.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Node, Weights
from effgen.graph.ops import is_sixth, is_usual_hard_sigmoid, number
from effgen.graph.passes.rewriter import Rewriter

_FLOAT32_MAX = float(np.finfo(np.float32).max)
#: Files hold these as float32, or what arithmetic made of them.
_CLOSE = 1e-5

#: No activation is a product of more factors.
_DEEPEST = 8


def fuse_activations(graph: Graph, weights: Weights) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph with these activations in one node each, and its weights without their constants."""
    return _ActivationFusion(graph, weights).run()


class _ActivationFusion(Rewriter):
    def visit(self, node: Node) -> None:
        match node.op_type:
            case "Mul":
                self.keep(self.of_product(node) or node)
            case "Clip" | "Relu":
                self.keep(self.of_bounds(node) or node)
            case "Log":
                self.keep(self.softplus(node) or node)
            case _:
                self.keep(node)

    # Products.

    def of_product(self, node: Node) -> Node | None:
        factor, names = self.product(node)
        if len(names) == 1 and is_sixth(factor) and (data := self.shifted_clip(names[0])) is not None:
            return Node("HardSigmoid", (data,), node.output, {"alpha": 1 / 6, "beta": 0.5})
        if len(names) != 2:
            return None
        for x, other in (names, names[::-1]):
            found = self.gated(x, other, factor)
            if found is not None:
                return Node(found[0], (x,), node.output, found[1])
        return None

    def gated(self, x: str, gate: str, factor: float) -> tuple[str, dict[str, str]] | None:
        """What x * gate * factor is."""
        inner = self.only(gate)
        if inner is None:
            return None
        if factor == 1 and inner.inputs[0] == x:
            if inner.op_type == "Sigmoid":
                return "Swish", {}
            if inner.op_type == "HardSigmoid" and is_usual_hard_sigmoid(inner.attributes):
                return "HardSwish", {}
        if factor == 1 and inner.op_type == "Tanh" and (softplus := self.only(inner.inputs[0], "Softplus")):
            return ("Mish", {}) if softplus.inputs[0] == x else None
        if is_sixth(factor) and self.shifted_clip(gate) == x:
            return "HardSwish", {}
        if math.isclose(factor, 0.5, rel_tol=_CLOSE) and (curve := self.one_more(inner)) is not None:
            if curve.op_type == "Erf" and self.is_scaled(curve.inputs[0], x, 1 / math.sqrt(2)):
                return "Gelu", {"approximate": "none"}
            if curve.op_type == "Tanh" and self.is_cubic(curve.inputs[0], x):
                return "Gelu", {"approximate": "tanh"}
        return None

    def product(self, node: Node, depth: int = _DEEPEST) -> tuple[float, list[str]]:
        """A product as a number and the tensors in it, as far as nothing else reads its parts, `depth` factors deep."""
        factor = 1.0
        names: list[str] = []
        for name in node.inputs:
            value = self.number(name)
            inner = self.only(name, "Mul") if depth else None
            if value is not None:
                factor *= value
            elif inner is not None:
                more, others = self.product(inner, depth - 1)
                factor, names = factor * more, names + others
            else:
                names.append(name)
        return factor, names

    def factors(self, name: str) -> tuple[float, list[str]]:
        inner = self.only(name, "Mul")
        return (1.0, [name]) if inner is None else self.product(inner)

    def one_more(self, node: Node) -> Node | None:
        """What makes the t of 1 + t."""
        terms = self.sum_of(node)
        return self.only(terms[0]) if terms is not None and terms[1] == 1 else None

    def sum_of(self, node: Node | None) -> tuple[str, float] | None:
        """The tensor and the number of their sum."""
        if node is None or node.op_type != "Add":
            return None
        for data, other in (node.inputs, node.inputs[::-1]):
            if (value := self.number(other)) is not None and self.shapes[data] == self.shapes[node.output]:
                return data, value
        return None

    def is_scaled(self, name: str, x: str, factor: float) -> bool:
        found, names = self.factors(name)
        return names == [x] and math.isclose(found, factor, rel_tol=_CLOSE)

    def is_cubic(self, name: str, x: str) -> bool:
        """Whether a tensor is sqrt(2 / pi) * (x + 0.044715 x^3), x^3 or x in or before the sum."""
        factor, names = self.factors(name)
        if not math.isclose(factor, math.sqrt(2 / math.pi), rel_tol=_CLOSE):
            return False
        outside = [n for n in names if n == x]
        inside = [n for n in names if n != x]
        if len(inside) != 1 or len(outside) > 1:
            return False
        add = self.only(inside[0], "Add")
        if add is None:
            return False
        terms = [self.factors(each) if self.number(each) is None else (self.number(each), []) for each in add.inputs]
        powers = {len(names): f for f, names in terms if Counter(names) == Counter([x] * len(names))}
        low = 0 if outside else 1
        return (
            set(powers) == {low, low + 2}
            and powers[low] == 1
            and math.isclose(powers[low + 2] or 0.0, 0.044715, rel_tol=_CLOSE)
        )

    # Bounds.

    def shifted_clip(self, name: str) -> str | None:
        """The x of Clip(x + 3, 0, 6)."""
        clip = self.only(name, "Clip")
        if clip is None or (clip.attributes["min"], clip.attributes["max"]) != (0.0, 6.0):
            return None
        terms = self.sum_of(self.only(clip.inputs[0]))
        return terms[0] if terms is not None and terms[1] == 3 else None

    def of_bounds(self, node: Node) -> Node | None:
        """One Clip for two, or the HardSigmoid that a Clip from 0 to 1 is."""
        low, high = _bounds(node)
        if (low, high) == (0.0, 1.0) and (terms := self.sum_of(self.only(node.inputs[0]))) is not None:
            factor, names = self.factors(terms[0])
            if len(names) == 1 and factor > 0 and self.shapes[names[0]] == self.shapes[node.output]:
                factor = 1 / 6 if is_sixth(factor) else factor
                return Node("HardSigmoid", (names[0],), node.output, {"alpha": factor, "beta": terms[1]})
        inner = self.only(node.inputs[0])
        if inner is None or inner.op_type not in ("Clip", "Relu"):
            return None
        first, second = _bounds(inner)
        bounds = {"min": min(max(first, low), high), "max": min(max(second, low), high)}
        if (bounds["min"], bounds["max"]) == (0.0, _FLOAT32_MAX):
            return Node("Relu", inner.inputs, node.output)
        return Node("Clip", inner.inputs, node.output, bounds)

    def softplus(self, node: Node) -> Node | None:
        terms = self.sum_of(self.only(node.inputs[0]))
        power = self.only(terms[0], "Exp") if terms is not None and terms[1] == 1 else None
        return None if power is None else Node("Softplus", power.inputs, node.output)


def _bounds(node: Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, _FLOAT32_MAX
    return number(node.attributes, "min"), number(node.attributes, "max")
