"""The latencies that the EfficientNet paper compares (arXiv 1905.11946, Table 4), beside those measured here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from effgen.results.reports import OURS, ModelFacts, Result
from effgen.results.rows import Row, Setting

#: How the paper measured.
PAPER_SETTING = "one core of a Xeon E5-2690, batch 1, mean of 20 runs"

#: A file named like a network of the paper is it where its parameters differ by no more, as by other classes.
_SIZE_TOLERANCE = 0.05


@dataclass(frozen=True)
class PaperNetwork:
    """A network of the paper: its name there, the seconds it took there, and how a measured model is told to be it."""

    name: str
    published_s: float
    matches: Callable[[ModelFacts], bool]


@dataclass(frozen=True)
class Pair:
    """Two networks of about the same accuracy; `published` is the ratio of latencies as the paper prints it."""

    large: PaperNetwork
    small: PaperNetwork
    published: float


@dataclass(frozen=True)
class Remeasured:
    """A pair by one backend in one setting of batch 1: milliseconds, None where a network of it was not measured; means
    as in the paper (`statistic`), medians where a mean was not kept."""

    pair: Pair
    setting: Setting
    backend: str
    large_ms: float | None
    small_ms: float | None
    statistic: Literal["mean", "median"]

    @property
    def ratio(self) -> float | None:
        """The large network's latency over the small one's."""
        return None if self.large_ms is None or self.small_ms is None else self.large_ms / self.small_ms

    @property
    def like_the_paper(self) -> bool:
        """Means of one thread; batch 1 they all are."""
        return self.setting.threads == 1 and self.statistic == "mean"


def _efficientnet(phi: int) -> Callable[[ModelFacts], bool]:
    """The published network, by its spec, or by the name of a file that someone else exported."""

    def matches(model: ModelFacts) -> bool:
        if model.family is not None:
            return model.family == "efficientnet" and model.phi == phi and model.law == "published"
        return re.search(rf"efficientnet[-_ ]?b{phi}(?!\d)", model.name, re.IGNORECASE) is not None

    return matches


def _named(pattern: str, parameters: float) -> Callable[[ModelFacts], bool]:
    """No family of ours: by the name of the file that it was compiled from, and by about its size."""

    def matches(model: ModelFacts) -> bool:
        named = model.family is None and re.search(pattern, model.name, re.IGNORECASE) is not None
        return named and abs(model.parameters / parameters - 1) < _SIZE_TOLERANCE

    return matches


TABLE_4 = (
    Pair(
        PaperNetwork("ResNet-152", 0.554, _named(r"resnet[-_ ]?152(?!\d)", 60.2e6)),
        PaperNetwork("EfficientNet-B1", 0.098, _efficientnet(1)),
        5.7,
    ),
    Pair(
        PaperNetwork("GPipe", 19.0, _named(r"gpipe", 557e6)),
        PaperNetwork("EfficientNet-B7", 3.1, _efficientnet(7)),
        6.1,
    ),
)


def remeasured(rows: Sequence[Row]) -> tuple[Remeasured, ...]:
    """Each pair by each backend that has a time for both, whole pairs and one thread first; by effgen also a half."""
    batch_1 = [row for row in rows if row.setting.batch == 1]
    cases = dict.fromkeys((row.setting, row.backend) for row in batch_1)
    found = []
    for pair in TABLE_4:
        for setting, backend in cases:
            here = [row for row in batch_1 if row.setting == setting and row.backend == backend]
            large, small = (_result(here, network) for network in (pair.large, pair.small))
            if (large and small) or ((large or small) and backend == OURS):
                found.append(_remeasured(pair, setting, backend, large, small))
    return tuple(sorted(found, key=lambda each: (TABLE_4.index(each.pair), each.ratio is None, each.setting.threads)))


def _remeasured(pair: Pair, setting: Setting, backend: str, large: Result | None, small: Result | None) -> Remeasured:
    """By means where all that was measured has one: a mean over a median would be no ratio."""
    measured = [result for result in (large, small) if result is not None]
    if all(result.mean_ms is not None for result in measured):
        times = [None if result is None else result.mean_ms for result in (large, small)]
        return Remeasured(pair, setting, backend, times[0], times[1], "mean")
    medians = [None if result is None else result.median_ms for result in (large, small)]
    return Remeasured(pair, setting, backend, medians[0], medians[1], "median")


def _result(rows: Sequence[Row], network: PaperNetwork) -> Result | None:
    """The network's first."""
    return next((row.result for row in rows if network.matches(row.model)), None)
