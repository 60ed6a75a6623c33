"""Pareto fronts of multiply-adds against latency, without accuracy: who computes most in a given time."""

from __future__ import annotations

from collections.abc import Sequence

from effgen.compare.rows import Row
from effgen.pareto import pareto_front


def front(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats: none does as many multiply-adds in less time, or more in the same. By latency.

    More multiply-adds stand for a larger network: with fewer of both as the goal the smallest one would always win.
    """
    return pareto_front(rows, cost=lambda row: row.result.median_ms, gain=lambda row: row.model.macs)
