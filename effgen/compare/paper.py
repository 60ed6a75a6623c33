"""The latencies that the EfficientNet paper compares (arXiv 1905.11946, Table 4), beside those measured here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from effgen.compare.rows import Row, Setting
from effgen.results import OURS, ModelFacts

#: How the paper measured.
PAPER_SETTING = "one core of a Xeon E5-2690, batch 1, mean of 20 runs"


@dataclass(frozen=True)
class Network:
    """A network of the paper: its name there, the seconds it took there, and how a measured model is told to be it."""

    name: str
    published_s: float
    matches: Callable[[ModelFacts], bool]


@dataclass(frozen=True)
class Pair:
    """Two networks of about the same accuracy; `published` is the ratio of latencies as the paper prints it."""

    large: Network
    small: Network
    published: float


@dataclass(frozen=True)
class Remeasured:
    """A pair by one backend in one setting of batch 1: milliseconds, None where a network of it was not measured."""

    pair: Pair
    setting: Setting
    backend: str
    large_ms: float | None
    small_ms: float | None

    @property
    def ratio(self) -> float | None:
        """The large network's latency over the small one's."""
        return None if self.large_ms is None or self.small_ms is None else self.large_ms / self.small_ms

    @property
    def like_the_paper(self) -> bool:
        """One thread."""
        return self.setting.threads == 1


def _efficientnet(phi: int) -> Callable[[ModelFacts], bool]:
    """The published network, by its spec, or by the name of a file that someone else exported."""

    def matches(model: ModelFacts) -> bool:
        if model.family is not None:
            return model.family == "efficientnet" and model.phi == phi and model.law == "published"
        return re.search(rf"efficientnet[-_ ]?b{phi}(?!\d)", model.name, re.IGNORECASE) is not None

    return matches


def _named(pattern: str) -> Callable[[ModelFacts], bool]:
    """No family of ours: by the name of the file that it was compiled from."""
    return lambda model: model.family is None and re.search(pattern, model.name, re.IGNORECASE) is not None


TABLE_4 = (
    Pair(
        Network("ResNet-152", 0.554, _named(r"resnet[-_ ]?152(?!\d)")),
        Network("EfficientNet-B1", 0.098, _efficientnet(1)),
        5.7,
    ),
    Pair(Network("GPipe", 19.0, _named(r"gpipe")), Network("EfficientNet-B7", 3.1, _efficientnet(7)), 6.1),
)


def remeasured(rows: Sequence[Row]) -> tuple[Remeasured, ...]:
    """Each pair by each backend that has a time for both, whole pairs and one thread first; by effgen also a half."""
    batch_1 = [row for row in rows if row.setting.batch == 1]
    cases = dict.fromkeys((row.setting, row.backend) for row in batch_1)
    found = []
    for pair in TABLE_4:
        for setting, backend in cases:
            here = [row for row in batch_1 if row.setting == setting and row.backend == backend]
            large, small = (_median(here, network) for network in (pair.large, pair.small))
            half = large is not None or small is not None
            if (large is not None and small is not None) or (half and backend == OURS):
                found.append(Remeasured(pair, setting, backend, large, small))
    return tuple(sorted(found, key=lambda each: (TABLE_4.index(each.pair), each.ratio is None, each.setting.threads)))


def _median(rows: Sequence[Row], network: Network) -> float | None:
    """Milliseconds of the network's first row."""
    return next((row.result.median_ms for row in rows if network.matches(row.model)), None)
