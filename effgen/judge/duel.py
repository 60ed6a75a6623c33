"""Two bundles of one network in turn: whether the one after a change is faster than the one before, beyond the noise.

Each has a process of its own, and a burst of calls at a time (`judge.race`). Not call by call: the weights of one would
then leave those of the other no place in the caches that they share, which no user of one network sees. The memory of a
process lies where there was room, and two processes of the very same code may differ by a percent for as long as they
live: so both are started anew several times (a *seating*), and one is better only if it is so in each.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from operator import truediv
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.judge.messages import Entry, Refused
from effgen.judge.race import Contender, Race, Racer, run_race
from effgen.judge.timing import REST_S, WAKE_S
from effgen.kernels.kinds import workload_from_name
from effgen.machines.host import watch_other_work
from effgen.measure.carried.timing import CHANCE, chance_of
from effgen.results.reports import DISTURBING_CPUS, OURS, Plan
from effgen.runtime import read_manifest

#: Pairs of processes, rounds of each pair, and seconds of a burst; a burst has one call at least.
SEATINGS, ROUNDS, BURST_S = 5, 8, 0.05

_BEFORE, _AFTER = "before", "after"

#: Seconds of a call of every round, by seating.
Rounds = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Duel:
    """What became of it: for each burst the lower quartile of its calls' seconds, by seating and round.

    `other_cpus`: CPUs' worth of work that other processes did meanwhile, None where the system does not tell.
    """

    before: Rounds
    after: Rounds
    other_cpus: float | None = None

    @property
    def before_s(self) -> float:
        """Median seconds of a call."""
        return statistics.median(chain(*self.before))

    @property
    def after_s(self) -> float:
        """Median seconds of a call."""
        return statistics.median(chain(*self.after))

    @property
    def ratios(self) -> list[list[float]]:
        """After / before in each round, by seating: what disturbs hits both, and the ratio within a round stays."""
        return [list(map(truediv, after, before)) for after, before in zip(self.after, self.before, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of the rounds' ratios: below 1 where the one after is faster."""
        return statistics.median(chain(*self.ratios))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper quartile of the rounds' ratios."""
        low, _, high = statistics.quantiles(chain(*self.ratios), n=4, method="inclusive")
        return low, high

    @property
    def rounds(self) -> int:
        """How many there were."""
        return sum(map(len, self.before))

    @property
    def wins(self) -> int:
        """Rounds in which the one after was faster."""
        return sum(ratio < 1 for ratio in chain(*self.ratios))

    @property
    def won(self) -> bool:
        """Whether the one after wins more rounds than chance would let it (the sign test, at CHANCE)."""
        return chance_of(self.wins, self.rounds) <= CHANCE

    @property
    def better(self) -> bool:
        """Whether it does, and is the faster one in every seating: rounds of one pair of processes are no independent
        witnesses of what their places in memory do."""
        return self.won and all(statistics.median(seating) < 1 for seating in self.ratios)

    @property
    def disturbed(self) -> bool:
        """Whether other work was enough to doubt it."""
        return self.other_cpus is not None and self.other_cpus > DISTURBING_CPUS


def duel_of_bundles(before: Path, after: Path, threads: int) -> Duel:
    """Whole calls of two bundles. Raises BundleError where one cannot be run."""
    with watch_other_work() as other_work:
        seats = [_bursts(race) for race, _ in _seatings(before, after, threads, lambda contender: contender)]
    return Duel(*_by_side(seats), other_work.cpus)


def duel_of_kernels(before: Path, after: Path, threads: int) -> dict[str, Duel]:
    """Every kernel of two bundles where it stands in the network, by its workload's name: by a clock between steps.

    Of a kernel that is called several times, all calls count. Kernels that only one of the two has are left out.
    Raises BundleError where a bundle cannot be run.
    """
    names = [kernels_of_bundle(path) for path in (before, after)]
    with watch_other_work() as other_work:
        seats = [
            {side: _steps_by_kernel(racers[side].seen, steps) for side, steps in zip(racers, names, strict=True)}
            for _, racers in _seatings(before, after, threads, _Stepping)
        ]
    both = [name for name in dict.fromkeys(names[0]) if name in set(names[1])]
    kernels = {name: [{side: by_kernel[name] for side, by_kernel in seat.items()} for seat in seats] for name in both}
    return {name: Duel(*_by_side(found), other_work.cpus) for name, found in kernels.items()}


def duel_s(entering_s: float, call_s: float) -> float:
    """About how many seconds a duel of bundles takes that are ready `entering_s` after the start of their process, and
    whose call takes `call_s`."""
    return SEATINGS * 2 * (entering_s + ROUNDS * (REST_S + WAKE_S + max(BURST_S, call_s)))


def kernels_of_bundle(path: Path) -> list[str]:
    """The workload that each step of a bundle computes, whatever it asks for ahead; a step's own name where effgen's
    kernels have none such. Raises BundleError."""
    workloads = {name: workload_from_name(name) for name in dict.fromkeys(read_manifest(path).steps)}
    plain = {name: found.without_ahead.name if found else name for name, found in workloads.items()}
    return [plain[name] for name in read_manifest(path).steps]


@dataclass
class _Stepping:
    """Races a contender with a clock between its steps; `seen`: of each burst, `(calls, steps)` seconds."""

    contender: Contender
    seen: list[NDArray[np.float64]] = field(default_factory=list)

    def warm_up(self) -> float:
        return self.contender.warm_up()

    def burst(self, time_s: float, wake_s: float) -> list[float]:
        self.seen.append(self.contender.steps(time_s, wake_s))
        return [float(whole) for whole in self.seen[-1].sum(axis=1)]


_R = TypeVar("_R", bound=Racer)


def _seatings(
    before: Path, after: Path, threads: int, racer_of: Callable[[Contender], _R]
) -> Iterator[tuple[Race, dict[str, _R]]]:
    """A race of each new pair of processes, and who raced."""
    bundles = {_BEFORE: before, _AFTER: after}
    for seating in range(SEATINGS):
        with ExitStack() as stack:
            # Who takes its memory first changes, too.
            order = sorted(bundles, reverse=seating % 2 == 0)
            entered = {side: stack.enter_context(_entered(bundles[side], threads)) for side in order}
            racers = {side: racer_of(entered[side]) for side in bundles}
            race = run_race(racers, Plan(ROUNDS, ROUNDS * BURST_S))
            for side, reason in race.lost.items():
                raise BundleError(f"{bundles[side]}: {reason}")
            yield race, racers


def _entered(bundle: Path, threads: int) -> Contender:
    contender = Contender(Entry(OURS, bundle, threads))
    if isinstance(contender.told, Refused):
        contender.close()
        raise contender.told.error or BundleError(f"{bundle}: {contender.told.reason}")
    return contender


def _bursts(race: Race) -> dict[str, list[float]]:
    return {side: [_lower_quartile(seconds) for seconds in bursts] for side, bursts in race.bursts.items()}


def _steps_by_kernel(bursts: Sequence[NDArray[np.float64]], names: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of all calls of a kernel in one of the network, in each burst."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    return {
        name: [_lower_quartile(seconds[:, where].sum(axis=1)) for seconds in bursts] for name, where in places.items()
    }


def _lower_quartile(seconds: Sequence[float] | NDArray[np.float64]) -> float:
    """Other work only ever makes a call slower: what stands for a burst (`measure.carried.timing`)."""
    return float(sorted(seconds)[len(seconds) // 4])


def _by_side(seats: Sequence[Mapping[str, Sequence[float]]]) -> tuple[Rounds, Rounds]:
    return tuple(tuple(seat[_BEFORE]) for seat in seats), tuple(tuple(seat[_AFTER]) for seat in seats)
