"""MnasNet's factorised hierarchical space around a network: what may change in each stage, and what comes of it.

Source: arXiv 1807.11626, section 4.1. Every stage decides for itself and all its blocks are alike: block kind, kernel
size, expansion, squeeze-excite ratio, skip, channels and layers, the last two relative to the network that the search
starts from. Strides, stem, head and input stay that network's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, TypeAlias

from effgen.graph import Graph
from effgen.network.lowering.network import lower
from effgen.network.scaling import round_channels
from effgen.network.spec import KEYS_OF_BLOCKS, BlockKind, NetworkSpec, RoundingSpec, SqueezeExciteSpec, StageSpec

DecisionValue: TypeAlias = str | int | float | bool

#: The decisions that make a network, e.g. {"stages.0.block": "mbconv", "stages.0.kernel": 5, ...}.
Point: TypeAlias = Mapping[str, DecisionValue]

#: MnasNet's convolutions (its section 4.1 and figure 7), and the fused block of EfficientNetV2 (arXiv 2104.00298).
BLOCKS: tuple[BlockKind, ...] = ("mbconv", "fused_mbconv", "depthwise_separable", "conv")
KERNELS = (3, 5)
EXPANSIONS = (1.0, 3.0, 6.0)
#: 0 is none.
SQUEEZE_RATIOS = (0.0, 0.25)
#: Of the channels of the stage that the search starts from.
WIDTHS = (0.75, 1.0, 1.25)
#: Layers added to that stage.
EXTRA_LAYERS = (-1, 0, 1)


@dataclass(frozen=True)
class NetworkSpace:
    """All networks around `start`. `choices` has each decision's values in order, `start`'s own among them."""

    start: NetworkSpec
    choices: Mapping[str, tuple[DecisionValue, ...]]

    @property
    def size(self) -> int:
        """How many points there are; some are the same network (`digest_of_network`)."""
        return prod(map(len, self.choices.values()))

    @cached_property
    def start_point(self) -> Point:
        """The decisions that make `start`."""
        return {
            f"stages.{index}.{key}": value
            for index, stage in enumerate(self.start.stages)
            for key, value in _decided(stage).items()
        }

    def spec_at(self, point: Point, name: str) -> NetworkSpec:
        """The network of `point`, which has a value for each of `choices`."""
        stages = [_stage_at(stage, index, point, self._squeeze) for index, stage in enumerate(self.start.stages)]
        fields = {**self.start.model_dump(), "name": name, "stages": stages}
        return NetworkSpec.model_validate(fields)

    @property
    def _squeeze(self) -> SqueezeExciteSpec:
        """How a stage squeezes that did not before: as the others do."""
        found = (stage.squeeze_excite for stage in self.start.stages if stage.squeeze_excite is not None)
        return next(found, SqueezeExciteSpec(ratio=0.25))


def space_around(start: NetworkSpec) -> NetworkSpace:
    """The space whose networks have `start`'s stages. Raises SpecError where `start` itself makes no network."""
    lower(start)
    choices = {
        f"stages.{index}.{key}": values
        for index, stage in enumerate(start.stages)
        for key, values in _choices(stage, start.rounding).items()
    }
    return NetworkSpace(start, choices)


def digest_of_network(graph: Graph) -> str:
    """Equal for graphs that compute the same with the same parameters' names and shapes, whatever they are called.

    Several points of a space can make one network: a skip where no block can have one, an expansion of a block that
    does not expand.
    """
    nodes = [(node.op_type, node.inputs, node.output, sorted(node.attributes.items())) for node in graph.nodes]
    shapes = [(name, parameter.shape) for name, parameter in graph.parameters.items()]
    return hashlib.sha256(repr((graph.input.shape, nodes, shapes)).encode()).hexdigest()


def _choices(stage: StageSpec, rounding: RoundingSpec) -> dict[str, tuple[DecisionValue, ...]]:
    start = _decided(stage)
    channels = (round_channels(stage.channels * width, rounding) for width in WIDTHS)
    return {
        "block": tuple(dict.fromkeys((*BLOCKS, stage.block))),
        "kernel": _ordered(*KERNELS, stage.kernel),
        "expand_ratio": _ordered(*EXPANSIONS, stage.expand_ratio),
        "se_ratio": _ordered(*SQUEEZE_RATIOS, start["se_ratio"]),
        "skip": (False, True),
        "channels": _ordered(*channels, stage.channels),
        "repeats": _ordered(*(max(1, stage.repeats + extra) for extra in EXTRA_LAYERS)),
    }


def _ordered(*values: Any) -> tuple[DecisionValue, ...]:
    return tuple(sorted(set(values)))


def _decided(stage: StageSpec) -> dict[str, DecisionValue]:
    squeeze = stage.squeeze_excite
    return {
        "block": stage.block,
        "kernel": stage.kernel,
        "expand_ratio": stage.expand_ratio,
        "se_ratio": 0.0 if squeeze is None else squeeze.ratio,
        "skip": stage.skip,
        "channels": stage.channels,
        "repeats": stage.repeats,
    }


def _stage_at(stage: StageSpec, index: int, point: Point, squeeze: SqueezeExciteSpec) -> dict[str, Any]:
    """The stage's fields; those that the block kind does not have keep their defaults."""
    decided = {key: point[f"stages.{index}.{key}"] for key in _decided(stage)}
    ratio = decided.pop("se_ratio")
    like = stage.squeeze_excite or squeeze
    fields = {
        **stage.model_dump(),
        **decided,
        "squeeze_excite": {**like.model_dump(), "ratio": ratio} if ratio else None,
    }
    foreign = [key for key, kinds in KEYS_OF_BLOCKS.items() if fields["block"] not in kinds]
    return {key: value for key, value in fields.items() if key not in foreign}
