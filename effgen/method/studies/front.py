"""What a baseline search found: its networks, the front of accuracy and latency, and what of it was confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from effgen.method.studies.samples import Sample, Verdict, compare
from effgen.network.spec import NetworkSpec
from effgen.results.front import pareto_front

State = Literal["done", "pruned", "failed"]

#: What is more than luck.
Accuracy = Literal["more accurate", "no less accurate", "less accurate", "accuracy not told apart"]
Speed = Literal["faster", "no slower", "slower", "latency not told apart"]

#: MnasNet's alpha = beta (arXiv 1807.11626, section 3; EfficientNet paper, section 4): twice the latency is worth 5% of
#: the accuracy.
EXPONENT = -0.07

#: A network is no less accurate if, for all we know, it loses less than this share of the pictures.
MARGIN = 0.005


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
class FrontTiming:
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
    timing: FrontTiming | None = None
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
    """A member beside the starting network.

    `gain` is the difference of the mean accuracies, `error` its standard error, `low` to `high` what the true one is
    between (None: unknown); `ratio` is latency over latency.

    `dominates` goes by these point estimates: as accurate and as fast, one of them more. `accuracy` and `speed` say
    what is more than luck.
    """

    gain: float | None
    error: float | None
    low: float | None
    high: float | None
    ratio: float
    dominates: bool
    accuracy: Accuracy
    speed: Speed
    beyond_spread: bool


def beside(member: Member, start: Member, comparisons: int = 1, pictures: int | None = None) -> Beside:
    """How `member`, one of so many (`comparisons`), stands to the network that the search began with.

    `beyond_spread`: it dominates, one of accuracy and latency is better beyond luck, and the other no worse: for all
    we know by less than MARGIN, or neither in median nor p90. `pictures` as in `effgen.method.studies.samples.compare`;
    accuracies of other seeds are not compared with those of the search.
    """
    found = None
    if (member.confirmed is None) == (start.confirmed is None):
        found = compare(member.sample, start.sample, comparisons, pictures)
    ratio, accuracy, speed = member.latency_ms / start.latency_ms, _accuracy_by(found), _speed_by(member, start)
    gain = None if found is None else found.difference
    dominates = gain is not None and gain >= 0 and ratio <= 1 and (gain > 0 or ratio < 1)
    no_worse = accuracy in ("more accurate", "no less accurate") and speed in ("faster", "no slower")
    return Beside(
        gain=gain,
        error=None if found is None else found.error,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        ratio=ratio,
        dominates=dominates,
        accuracy=accuracy,
        speed=speed,
        beyond_spread=dominates and no_worse and (accuracy == "more accurate" or speed == "faster"),
    )


def _accuracy_by(found: Verdict | None) -> Accuracy:
    if found is None or found.low is None:
        return "accuracy not told apart"
    if found.outcome == "is not told apart from":
        return "no less accurate" if found.low > -MARGIN else "accuracy not told apart"
    return "more accurate" if found.outcome == "beats" else "less accurate"


def _speed_by(member: Member, start: Member) -> Speed:
    mine, other = member.timing, start.timing
    if mine is None or other is None:
        return "latency not told apart"
    if mine.p90_ms < other.p10_ms:
        return "faster"
    if mine.p10_ms > other.p90_ms:
        return "slower"
    no_slower = mine.median_ms <= other.median_ms and mine.p90_ms <= other.p90_ms
    return "no slower" if no_slower else "latency not told apart"


@dataclass(frozen=True)
class BaselineReport:
    """A whole search.

    `study` says where its trials are kept, `data` what was learned (a folder, or the user's own trainer), `device` and
    `threads` what latencies are of. Accuracies are shares of `pictures` (None: unknown); the front was trained again
    with `confirm_seeds` other seeds. `repeated` networks were drawn again and left out, of the `points` in the space.
    `training_threads` are the fewest and the most of a training, None where they are not known. `members` are the front
    as the search saw it, `front` those of them that the confirmation leaves, both the fastest
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
    pictures: int | None
    confirm_seeds: int
    candidates: tuple[TriedNetwork, ...]
    start: Member
    members: tuple[Member, ...]
    front: tuple[Member, ...]
    date: str
    training_threads: tuple[int, int] | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether accuracies are means over other seeds than the search's."""
        return self.confirm_seeds > 0

    @property
    def found(self) -> list[Member]:
        """The front without the starting network, which may be on it."""
        return [member for member in self.front if not self.is_start(member)]

    def beside_start(self, member: Member) -> Beside:
        """How a member stands to the starting network; all of the search's front are compared with it."""
        others = sum(not self.is_start(one) for one in self.members)
        return beside(member, self.start, max(1, others), self.pictures)

    def judged(self, member: Member) -> Sample | None:
        """The accuracies to show: none where a member lacks what the others have, trainings with other seeds."""
        return None if self.is_confirmed and member.confirmed is None else member.sample

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
