"""What a baseline search found: its networks, the front of accuracy and latency, and what of it was confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from effgen.pareto import pareto_front
from effgen.spec import NetworkSpec
from effgen.studies.samples import Sample, compare

State = Literal["done", "pruned", "failed"]

#: MnasNet's alpha = beta (arXiv 1807.11626, section 3; EfficientNet paper, section 4): twice the latency is worth 5% of
#: the accuracy.
EXPONENT = -0.07


def reward(accuracy: float, latency_s: float, target_s: float, exponent: float = EXPONENT) -> float:
    """ACC * (LAT / T)^w (MnasNet, equation 2): accuracy 0..1, both times in seconds."""
    return float(accuracy * (latency_s / target_s) ** exponent)


@dataclass(frozen=True)
class TriedNetwork:
    """A network that was tried.

    `latency_s` is predicted from measured kernels, `measured_share` of it from kernels measured as they are.
    `accuracy`, 0..1, is that of the search's seed after `epochs` (None: the user's own trainer did not say), of fewer
    than planned where the trial was pruned. A trial that failed has an `error` and may lack the rest.
    """

    trial: int
    state: State
    spec: NetworkSpec
    macs: int
    parameters: int
    latency_s: float | None = None
    measured_share: float | None = None
    accuracy: float | None = None
    reward: float | None = None
    epochs: int | None = None
    error: str = ""

    @property
    def name(self) -> str:
        """The spec's name, which says the trial."""
        return self.spec.name


@dataclass(frozen=True)
class Timing:
    """A compiled network's latency, milliseconds a call, timed in turn with the others of the front."""

    median_ms: float
    p10_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Member:
    """A network of the front, or the starting one, beside its confirmation.

    `confirmed` are accuracies of trainings with other seeds than the search's, by which the network was chosen; None:
    there were none. `error` is why one of them failed.
    """

    candidate: TriedNetwork
    confirmed: Sample | None = None
    timing: Timing | None = None
    error: str = ""

    @property
    def sample(self) -> Sample:
        """The confirming accuracies, or the search's one where there are none."""
        if self.confirmed is not None:
            return self.confirmed
        assert self.candidate.accuracy is not None
        return Sample((self.candidate.accuracy,), self.candidate.accuracy, None)

    @property
    def accuracy(self) -> float:
        """The mean, 0..1."""
        return self.sample.mean

    @property
    def latency_ms(self) -> float:
        """As measured, else as predicted."""
        if self.timing is not None:
            return self.timing.median_ms
        assert self.candidate.latency_s is not None
        return self.candidate.latency_s * 1e3


@dataclass(frozen=True)
class Beside:
    """A member beside the starting network: `gain` is the difference of the mean accuracies, `error` its standard error
    (None where a spread is unknown), `ratio` latency over latency.

    `dominates`: as accurate and as fast, one of them more. `beyond_spread`: nor is that luck, for its accuracy is
    higher by more than seeds make, or its latency lower by more than it varies (its p90 below the other's p10).
    """

    gain: float
    error: float | None
    ratio: float
    dominates: bool
    beyond_spread: bool


def beside(member: Member, start: Member) -> Beside:
    """How `member` stands to the network that the search began with."""
    comparison, ratio = compare(member.sample, start.sample), member.latency_ms / start.latency_ms
    gain = comparison.difference
    dominates = gain >= 0 and ratio <= 1 and (gain > 0 or ratio < 1)
    mine, other = member.timing, start.timing
    faster = mine is not None and other is not None and mine.p90_ms < other.p10_ms
    return Beside(gain, comparison.error, ratio, dominates, dominates and (comparison.outcome == "beats" or faster))


@dataclass(frozen=True)
class BaselineReport:
    """A whole search.

    `study` says where its trials are kept, `data` what was learned (a folder, or the user's own trainer), `device` and
    `threads` what latencies are of. `repeated` networks were drawn again and left out, of the `points` in the space.
    `members` are the front as the search saw it, `front` those of them that the confirmation leaves, both the fastest
    first; either may hold `start`, which is confirmed as they are.
    """

    study: str
    data: str
    target: str
    device: str
    threads: int
    latency_target_s: float
    exponent: float
    sampler: str
    pruner: str
    repeated: int
    points: int
    candidates: tuple[TriedNetwork, ...]
    start: Member
    members: tuple[Member, ...]
    front: tuple[Member, ...]
    date: str

    @property
    def is_confirmed(self) -> bool:
        """Whether accuracies are means over other seeds than the search's."""
        return self.start.confirmed is not None

    @property
    def found(self) -> list[Member]:
        """The front without the starting network, which may be on it."""
        return [member for member in self.front if not self.is_start(member)]

    def is_start(self, member: Member) -> bool:
        """Whether it is the network that the search began with."""
        return member.candidate.trial == self.start.candidate.trial


def front_of(candidates: Iterable[TriedNetwork]) -> list[TriedNetwork]:
    """The trained candidates that no other beats in accuracy and predicted latency, the fastest first."""
    trained = [each for each in candidates if each.state == "done"]
    return pareto_front(trained, cost=_latency, gain=_accuracy)


def confirmed_front(members: Sequence[Member]) -> list[Member]:
    """As `front_of`, by the confirmed accuracies and measured latencies; without those of which a training failed."""
    sound = [member for member in members if not member.error]
    return pareto_front(sound, cost=lambda member: member.latency_ms, gain=lambda member: member.accuracy)


def _latency(candidate: TriedNetwork) -> float:
    assert candidate.latency_s is not None
    return candidate.latency_s


def _accuracy(candidate: TriedNetwork) -> float:
    assert candidate.accuracy is not None
    return candidate.accuracy
