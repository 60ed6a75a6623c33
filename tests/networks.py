"""Small networks that the tests share: built in milliseconds, yet with every part that the big ones have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.graph import Graph
from effgen.network.lowering.network import lower
from effgen.network.spec import NetworkSpec, parse_spec
from effgen.network.weights import initial_weights

#: A block without and blocks with expansion, with and without squeeze-excite and skip, both strides.
TINY = """
name = "tiny"
activation = "silu"

[input]
resolution = 32

[stem]
channels = 8

[[stages]]
block = "mbconv"
kernel = 3
stride = 1
channels = 8
repeats = 1
squeeze_excite = { ratio = 0.25 }

[[stages]]
block = "mbconv"
expand_ratio = 4
kernel = 5
stride = 2
channels = 16
repeats = 2
squeeze_excite = { ratio = 0.25 }

[[stages]]
block = "mbconv"
expand_ratio = 2
kernel = 3
stride = 2
channels = 24
repeats = 1

[head]
channels = 32

[classifier]
classes = 10
"""

#: Every block kind but `mbconv`, each with all it can have, a stem with max pooling and a head behind the pooling.
KINDS = """
name = "kinds"
activation = "hard_swish"

[input]
resolution = 32

[stem]
channels = 8
activation = "relu"
max_pool = { kernel = 3, stride = 2 }

[[stages]]
block = "depthwise_separable"
kernel = 3
stride = 1
channels = 8
repeats = 1
linear = false
squeeze_excite = { ratio = 0.25, of = "expanded", activation = "relu", gate = "hard_sigmoid" }

[[stages]]
block = "fused_mbconv"
expand_ratio = 1
kernel = 3
stride = 1
channels = 8
repeats = 1

[[stages]]
block = "fused_mbconv"
expand_ratio = 4
kernel = 3
stride = 2
channels = 16
repeats = 2
activation = "silu"
squeeze_excite = { ratio = 0.25 }

[[stages]]
block = "bottleneck"
kernel = 3
stride = 1
channels = 32
repeats = 2
activation = "relu"

[[stages]]
block = "bottleneck"
kernel = 3
stride = 2
channels = 32
repeats = 1
activation = "relu6"
skip = false

[[stages]]
block = "conv"
kernel = 1
stride = 1
channels = 48
repeats = 1

[head]
channels = 32
after_pool = true

[classifier]
classes = 10
"""


def kinds_graph(batch: int = 1, **replaced: str) -> Graph:
    """The graph of KINDS, edited as `tiny_spec` edits TINY."""
    return lower(parse_spec(edited(KINDS, **replaced), where="kinds.toml"), batch)


def tiny_spec(**replaced: str) -> NetworkSpec:
    """TINY with each `key=text` put in place of the first line that sets `key`; `key=""` removes the line."""
    return parse_spec(edited(TINY, **replaced), where="tiny.toml")


def tiny_graph(batch: int = 1, **replaced: str) -> Graph:
    """The graph of `tiny_spec`."""
    return lower(tiny_spec(**replaced), batch)


def edited(text: str, **replaced: str) -> str:
    """`text` with the first line that sets a key replaced, e.g. `kernel="5"`."""
    lines = text.splitlines()
    for key, value in replaced.items():
        index = next(i for i, line in enumerate(lines) if line.startswith(f"{key} = "))
        lines[index] = f"{key} = {value}" if value else ""
    return "\n".join(lines) + "\n"


def lively_weights(graph: Graph, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights whose biases and batch norms are not the neutral ones of `initial_weights`."""
    generator = np.random.default_rng(seed)
    ranges = {"bias": (-0.5, 0.5), "norm_scale": (0.5, 1.5), "norm_bias": (0.0, 1.0)}
    ranges |= {"norm_mean": (-0.2, 0.2), "norm_var": (0.3, 3.0)}
    weights = initial_weights(graph, seed)
    for name, parameter in graph.parameters.items():
        if parameter.role in ranges:
            weights[name] = generator.uniform(*ranges[parameter.role], parameter.shape).astype(np.float32)
    return weights


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """An image of normal noise."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Relative L2 error."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
