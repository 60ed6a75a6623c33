"""What a round holds: a few candidates of every kernel, chosen before any of them is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from effgen.tuning.search import KernelSearch

#: Candidates of a kernel in a round, its default among them in the first.
A_ROUND = 8


@dataclass(frozen=True)
class Chosen:
    """One kernel's candidates in a round."""

    search: KernelSearch
    candidates: tuple[dict[str, int], ...]


def plan_round(searches: Sequence[KernelSearch], most: int | None = None) -> list[Chosen]:
    """`A_ROUND` candidates of each kernel, `most` in all: a first one of every kernel, then a second one, ...

    Kernels come in the order of what they may gain, those never measured by their work. None where nothing is left.
    """

    def rank(search: KernelSearch) -> tuple[bool, float]:
        worth = search.expected_gain_s if search.started else search.calls * search.workload.macs
        return search.started, -worth

    ranked = sorted(searches, key=rank)
    chosen: dict[str, list[dict[str, int]]] = {search.workload.name: [] for search in ranked}
    left = most if most is not None else A_ROUND * len(ranked)
    for _ in range(A_ROUND):
        for search in ranked:
            proposed = search.propose_ahead() if left else None
            if proposed is not None:
                chosen[search.workload.name].append(proposed)
                left -= 1
    return [Chosen(s, tuple(found)) for s in ranked if (found := chosen[s.workload.name])]
