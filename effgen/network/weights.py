"""Seeded initial weights, as the released EfficientNets are initialised."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph, Parameter
from effgen.graph.ops import integer


def initial_weights(graph: Graph, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights of every parameter of `graph`, the same for the same seed on every machine.

    Convolutions: normal with variance 2 / (kh * kw * out / group), batch norms (1, 0, 0, 1), linear layers uniform
    within 1 / sqrt(out) (`conv_kernel_initializer` and `dense_kernel_initializer` of the original release; timm's
    "goog" scheme). Biases are zero.
    """
    generator = np.random.default_rng(seed)
    groups = {node.inputs[1]: integer(node.attributes, "group", 1) for node in graph.nodes if node.op_type == "Conv"}
    return {
        name: _kernel(parameter, groups.get(name), generator) if parameter.role == "kernel" else _constant(parameter)
        for name, parameter in graph.parameters.items()
    }


def _kernel(parameter: Parameter, groups: int | None, generator: np.random.Generator) -> NDArray[np.float32]:
    shape = parameter.shape
    if groups is None:
        bound = 1 / math.sqrt(shape[0])
        return (generator.random(shape, dtype=np.float32) * 2 - 1) * np.float32(bound)
    fan_out = shape[0] * shape[2] * shape[3] // groups
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2 / fan_out))


def _constant(parameter: Parameter) -> NDArray[np.float32]:
    value = 1.0 if parameter.role in ("norm_scale", "norm_var") else 0.0
    return np.full(parameter.shape, value, np.float32)
