"""What inputs are made of: a network, a recipe, their texts as bytes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from effgen.graph import Graph

ROOT = Path(__file__).parents[1]

#: A network with most kinds of parts.
SPEC = """
name = "small"
activation = "silu"
input = { resolution = 32 }
stem = { channels = 8 }
head = { channels = 32 }
classifier = { classes = 10 }
scaling = { published = [ { name = "b0", phi = 0, width = 1.0, depth = 1.0, resolution = 32 } ] }
stages = [
    { block = "mbconv", kernel = 3, stride = 1, channels = 8, repeats = 1, squeeze_excite = { ratio = 0.25 } },
    { block = "mbconv", kernel = 5, stride = 2, channels = 16, repeats = 2, expand_ratio = 4.0, more_kernels = [3] },
    { block = "bottleneck", kernel = 3, stride = 2, channels = 24, repeats = 1 },
]
"""

RECIPE = """
epochs = 3
batch_size = 8
optimizer = "rmsprop"
learning_rate = 0.01
schedule = "exponential"
warmup_epochs = 1.0
augment = { shift = 0.1, min_area = 0.5, max_aspect = 2.0, flip = true }
"""


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@cache
def graph() -> Graph:
    from effgen.network.build import network_from_spec
    from effgen.network.spec import parse_spec

    return network_from_spec(parse_spec(SPEC, "small")).graph
