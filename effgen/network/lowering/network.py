"""NetworkSpec -> Graph: stem, stages, head and classifier, in the order in which they run.

What a block kind means is in `effgen.network.lowering.blocks`.
"""

from __future__ import annotations

from effgen.errors import SpecError
from effgen.graph import Graph, GraphBuilder, Value
from effgen.network.lowering.blocks import BLOCKS
from effgen.network.lowering.layers import Layers
from effgen.network.spec import MAX_BLOCKS, NetworkSpec

INPUT_NAME = "image"
OUTPUT_NAME = "logits"

#: Numbers that all parameters have together, and that a tensor of one image has: 2 GiB each. The largest network
#: published, EfficientNet-L2, has 480 million parameters.
MOST_NUMBERS = 2**29


def lower(spec: NetworkSpec, batch: int = 1) -> Graph:
    """The graph of a scaled spec: `image` (batch, channels, height, width) -> `logits` (batch, classes).

    Raises SpecError where it has more blocks than MAX_BLOCKS, or is larger than MOST_NUMBERS.
    """
    _check_depth(spec)
    image = Value(INPUT_NAME, (batch, spec.input.channels, *spec.input.size))
    layers = Layers(spec, GraphBuilder(spec.name, image))
    x = _stem(layers, INPUT_NAME)
    for index, stage in enumerate(spec.stages):
        layers.b.scope = f"stages.{index}"
        for block in range(stage.repeats):
            stride = stage.stride if block == 0 else 1
            x = BLOCKS[stage.block](layers, x, f"stages.{index}.{block}", stage, stride)
    x = _head(layers, x)
    graph = layers.b.finish(_classifier(layers, x))
    _check_size(graph)
    return graph


def _check_depth(spec: NetworkSpec) -> None:
    blocks = sum(stage.repeats for stage in spec.stages)
    if blocks > MAX_BLOCKS:
        raise SpecError(f"{spec.name}: {blocks} blocks in all stages: expected at most {MAX_BLOCKS}; scale it by less")


def _check_size(graph: Graph) -> None:
    parameters = sum(parameter.size for parameter in graph.parameters.values())
    if parameters > MOST_NUMBERS:
        raise SpecError(
            f"{graph.name}: has {parameters:,} parameters: expected at most {MOST_NUMBERS:,} (2 GiB); take fewer "
            "channels or scale it by less"
        )
    largest = max((graph.values[node.output] for node in graph.nodes), key=lambda value: value.size)
    if largest.size // graph.batch > MOST_NUMBERS:
        raise SpecError(
            f"{graph.name}: {largest.name} has {largest.size // graph.batch:,} numbers an image: expected at most "
            f"{MOST_NUMBERS:,} (2 GiB); take fewer channels or pixels, or scale it by less"
        )


def _stem(layers: Layers, x: str) -> str:
    layers.b.scope = "stem"
    stem = layers.spec.stem
    x = layers.conv_norm(x, "stem", stem.channels, stem.kernel, stem.stride)
    x = layers.activation(x, stem.activation or layers.spec.activation)
    return layers.max_pool(x, "stem.pool", stem.max_pool) if stem.max_pool else x


def _head(layers: Layers, x: str) -> str:
    """The global average pool, and the head's convolution on its side of it."""
    layers.b.scope = "head"
    head = layers.spec.head
    if head is None:
        return layers.b.add("GlobalAveragePool", [x], "pool")
    activation = head.activation or layers.spec.activation
    if head.after_pool:
        x = layers.b.add("GlobalAveragePool", [x], "pool")
        if head.norm:
            return layers.activation(layers.conv_norm(x, "head", head.channels, kernel=1), activation)
        return layers.activation(layers.conv_bias(x, "head", head.channels), activation)
    x = layers.activation(layers.conv_norm(x, "head", head.channels, kernel=1), activation)
    return layers.b.add("GlobalAveragePool", [x], "pool")


def _classifier(layers: Layers, x: str) -> str:
    b = layers.b
    b.scope = "classifier"
    x = b.add("Flatten", [x], "features", axis=1)
    classes, features = layers.spec.classifier.classes, b.shape(x)[1]
    weight = b.parameter("classifier.weight", (classes, features), "kernel")
    bias = b.parameter("classifier.bias", (classes,), "bias")
    return b.add("Gemm", [x, weight, bias], OUTPUT_NAME, transB=1)
