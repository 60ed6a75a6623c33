"""Random networks of what a spec can say: what machines are calibrated with, and predictions are judged on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import get_args

from effgen.network.lowering.network import lower
from effgen.network.spec import (
    Activation,
    BlockKind,
    ClassifierSpec,
    HeadSpec,
    InputSpec,
    NetworkSpec,
    SqueezeExciteSpec,
    StageSpec,
    StemSpec,
)

#: What a stage's block kind is drawn from: every kind, the usual one more often.
BLOCKS: tuple[BlockKind, ...] = (*get_args(BlockKind), "mbconv", "mbconv")

_RESOLUTIONS = tuple(range(96, 321, 32))
_ACTIVATIONS: tuple[Activation, ...] = ("silu", "silu", "relu", "relu6", "hard_swish")
#: Channels of the stages at width 1, and their strides: those of EfficientNet-B0.
_CHANNELS, _STRIDES = (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 2, 1, 2, 1)
#: Networks of more multiply-adds than this are drawn again: they would take most of the time.
_MOST_MACS = 2_500_000_000


def sample_networks(count: int, seed: str, blocks: Sequence[BlockKind] = BLOCKS) -> Iterator[NetworkSpec]:
    """`count` specs of networks, scaled already, called `<seed>_0`, `<seed>_1`, ...: the same for the same `seed`."""
    draw, found = random.Random(seed), 0
    while found < count:
        spec = _network(draw, f"{seed}_{found}", blocks)
        if lower(spec).macs <= _MOST_MACS:
            found += 1
            yield spec


def _network(draw: random.Random, name: str, blocks: Sequence[BlockKind]) -> NetworkSpec:
    """5 to 7 stages, the choices of each its own, images of 96 to 320 pixels."""
    width = draw.choice((0.5, 0.75, 1.0, 1.0, 1.25, 1.5))
    stages = [_stage(draw, index, width, blocks) for index in range(draw.randint(5, len(_CHANNELS)))]
    return NetworkSpec(
        name=name,
        activation=draw.choice(_ACTIVATIONS),
        input=InputSpec(resolution=draw.choice(_RESOLUTIONS)),
        stem=StemSpec(kernel=3, channels=_channels(32 * width)),
        stages=stages,
        head=HeadSpec(channels=_channels(draw.choice((640, 960, 1280)) * width)),
        classifier=ClassifierSpec(classes=draw.choice((10, 100, 1000))),
    )


def _stage(draw: random.Random, index: int, width: float, blocks: Sequence[BlockKind]) -> StageSpec:
    block, ratio = draw.choice(blocks), draw.choice((None, 0.25, 0.25, 0.5))
    widens = block in ("mbconv", "fused_mbconv", "universal", "ghost")
    squeezes = block in ("mbconv", "depthwise_separable")
    return StageSpec(
        block=block,
        kernel=draw.choice((3, 3, 5, 5, 7)) if squeezes else 3,
        stride=_STRIDES[index],
        channels=_channels(_CHANNELS[index] * draw.uniform(0.7, 1.4) * width),
        repeats=draw.randint(1, 4),
        expand_ratio=draw.choice((1.0, 3.0, 4.0, 6.0)) if widens and index else 1.0,
        squeeze_excite=SqueezeExciteSpec(ratio=ratio, of=draw.choice(("input", "expanded")))
        if ratio and squeezes
        else None,
        activation=draw.choice((None, None, None, *_ACTIVATIONS)),
        skip=draw.random() < 0.85,
    )


def _channels(number: float) -> int:
    """A multiple of 8."""
    return max(8, round(number / 8) * 8)
