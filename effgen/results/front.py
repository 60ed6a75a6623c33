"""Pareto fronts of multiply-adds against latency, without accuracy: who computes most in a given time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from effgen.results.rows import Row


def front(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats: none does as many multiply-adds in less time, or more in the same. By latency.

    More multiply-adds stand for a larger network: with fewer of both as the goal the smallest one would always win.
    """
    return pareto_front(rows, cost=lambda row: row.result.median_ms, gain=lambda row: row.model.macs)


Entry = TypeVar("Entry")


def pareto_front(items: Iterable[Entry], cost: Callable[[Entry], float], gain: Callable[[Entry], float]) -> list[Entry]:
    """The items that no other beats: none gains as much for less, or more for the same. By cost, so by gain too.

    Of several with equal cost and gain the first stays.
    """
    kept: list[Entry] = []
    for item in sorted(items, key=lambda item: (cost(item), -gain(item))):
        if not kept or gain(item) > gain(kept[-1]):
            kept.append(item)
    return kept
