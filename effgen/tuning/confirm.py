"""The last word on what was found: records take the place of others only where the network is faster with them.

    kernels, each old and new inside the network -> those that won -> the whole network, old and new -> kept, or halved

What wins in a loop of its own need not win between its neighbours, and what was found beside other work need not win at
all. So nothing is chosen before it won here, and nothing at all where other work disturbed the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from effgen.judge.duel import Duel
from effgen.measure.carried.timing import Timing
from effgen.records.lookup import RecordSource
from effgen.records.record import Record
from effgen.results.reports import DISTURBING_CPUS
from effgen.tuning.ledger import Ledger
from effgen.tuning.search import KernelSearch

#: What came of it. "nothing": there was nothing to compare; "equal": not better beyond the noise; "failed": the network
#: could not be built or run.
Said = Literal["better", "equal", "disturbed", "nothing", "interrupted", "failed"]


class Arena(Protocol):
    """Where networks compete. `old` and `new` are what the user's database holds: records that are chosen."""

    @property
    def another_s(self) -> float:
        """About how many seconds another comparison takes."""

    def kernels(self, old: Sequence[Record], new: Sequence[Record]) -> Mapping[str, Duel]:
        """Each kernel inside the network, by the names of workloads."""

    def whole(self, old: Sequence[Record], new: Sequence[Record]) -> Duel:
        """The whole network's calls."""


@dataclass(frozen=True)
class Verdict:
    """What was said of the winners. `whole` is the last comparison of networks, `kernels` those inside them by name;
    `kept`: of the kernels whose records were replaced, seconds of a call old and new, side by side; `other_cpus` is
    what disturbed, `problem` what failed."""

    said: Said
    whole: Duel | None = None
    kernels: Mapping[str, Duel] = field(default_factory=dict)
    kept: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    other_cpus: float | None = None
    problem: str = ""


def confirm(
    ledger: Ledger, sources: Iterable[RecordSource], arena: Arena, left_s: Callable[[], float | None]
) -> Verdict:
    """Keep what makes the network faster than it is with the records of `sources`; whoever calls is `ledger.alone`.

    `left_s`: seconds until the time limit, None without one. What does not fit into it is not tried: of winners that do
    not make the network faster together, the half that saves most is tried next, and half of that.
    """
    sources = list(sources)
    ledger.begin_from(sources)
    old = [record for source in sources if source.own for record in source.records if record.chosen]
    challengers = waiting_of(ledger)
    if not challengers:
        return Verdict("nothing")
    kernels = arena.kernels(old, _with(old, challengers))
    disturbing = [duel.other_cpus for duel in kernels.values() if duel.disturbed]
    if disturbing:
        return Verdict("disturbed", None, kernels, other_cpus=disturbing[0])
    winners = [search for search in challengers if _won(search, kernels)]
    verdict = _of_networks(ledger, old, winners, kernels, arena, left_s)
    if verdict.said != "disturbed":
        for search in challengers:
            if _ratio(search, kernels) >= 1:
                ledger.refute(search)
    return verdict


def by_loops(ledger: Ledger, checked: Mapping[str, Timing], other_cpus: float | None) -> Verdict:
    """If networks cannot be compared, keep what a long comparison in a loop confirmed, unless other work disturbed."""
    if other_cpus is not None and other_cpus > DISTURBING_CPUS:
        return Verdict("disturbed", other_cpus=other_cpus)
    kept = {}
    for name, timing in checked.items():
        search = ledger.search_of(name)
        assert search is not None and timing.incumbent_seconds is not None
        ledger.keep(search, timing.ratio)
        kept[name] = (timing.incumbent_seconds, timing.seconds)
    return Verdict("better" if kept else "nothing", kept=kept)


def waiting_of(ledger: Ledger) -> list[KernelSearch]:
    """The kernels that something beats in its loop, and nothing has confirmed."""
    return [
        search
        for search in ledger.searches
        if search.improved and search.incumbent and search.best and not search.best.chosen
    ]


def _of_networks(
    ledger: Ledger,
    old: Sequence[Record],
    chosen: Sequence[KernelSearch],
    kernels: Mapping[str, Duel],
    arena: Arena,
    left_s: Callable[[], float | None],
) -> Verdict:
    """All those chosen together, then the half that saves most, and half of that, until a network is faster."""
    whole = None
    while chosen:
        whole = arena.whole(old, _with(old, chosen))
        if whole.disturbed:
            return Verdict("disturbed", whole, kernels, other_cpus=whole.other_cpus)
        if whole.better:
            for search in chosen:
                ledger.keep(search, _ratio(search, kernels))
            return Verdict(
                "better", whole, kernels, {search.workload.name: _times(search, kernels) for search in chosen}
            )
        left = left_s()
        if left is not None and left < arena.another_s:
            break
        chosen = sorted(chosen, key=lambda search: -_saved_s(search, kernels))[: len(chosen) // 2]
    return Verdict("equal", whole, kernels)


def _with(old: Sequence[Record], searches: Sequence[KernelSearch]) -> list[Record]:
    """The records with the winners in the place of those of their kernels."""
    new = {search.workload.name: replace(search.best, kept=True) for search in searches if search.best}
    return [*(record for record in old if record.kernel not in new), *new.values()]


def _won(search: KernelSearch, kernels: Mapping[str, Duel]) -> bool:
    duel = kernels.get(search.workload.name)
    return duel is not None and duel.won


def _ratio(search: KernelSearch, kernels: Mapping[str, Duel]) -> float:
    """New / old inside the network; 0 where it was not compared."""
    duel = kernels.get(search.workload.name)
    return 0.0 if duel is None else duel.ratio


def _times(search: KernelSearch, kernels: Mapping[str, Duel]) -> tuple[float, float]:
    """Seconds of a call, old and new."""
    duel = kernels[search.workload.name]
    return duel.before_s / search.calls, duel.after_s / search.calls


def _saved_s(search: KernelSearch, kernels: Mapping[str, Duel]) -> float:
    duel = kernels[search.workload.name]
    return duel.before_s - duel.after_s
