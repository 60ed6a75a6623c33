"""Pareto fronts of multiply-adds against latency, without accuracy: who computes most in a given time."""

from __future__ import annotations

from collections.abc import Sequence

from effgen.compare.rows import Row


def front(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats: none does as many multiply-adds in less time, or more in the same. By latency.

    More multiply-adds stand for a larger network: with fewer of both as the goal the smallest one would always win.
    """
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.result.median_ms, -row.model.macs)):
        if not kept or row.model.macs > kept[-1].model.macs:
            kept.append(row)
    return kept
