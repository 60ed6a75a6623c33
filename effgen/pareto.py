"""Pareto fronts: what is kept when something costs and something is gained, and neither is worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def pareto_front(items: Iterable[Item], cost: Callable[[Item], float], gain: Callable[[Item], float]) -> list[Item]:
    """The items that no other beats: none gains as much for less, or more for the same. By cost, so by gain too.

    Of several with equal cost and gain the first stays.
    """
    kept: list[Item] = []
    for item in sorted(items, key=lambda item: (cost(item), -gain(item))):
        if not kept or gain(item) > gain(kept[-1]):
            kept.append(item)
    return kept
