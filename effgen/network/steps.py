"""Channels, repeats and pixels are whole numbers, so multiply-adds climb in steps as a network is scaled."""

from __future__ import annotations

from collections.abc import Callable


def around_step(
    macs: Callable[[float], float], wanted: float, below: float, above: float, halvings: int
) -> tuple[float, float]:
    """The two numbers next to each other between which `macs`, which never falls, comes to `wanted` or more.

    It is less at `below` and not less at `above`, also of the numbers returned: they are 2^halvings times nearer.
    """
    for _ in range(halvings):
        middle = (below + above) / 2
        if macs(middle) < wanted:
            below = middle
        else:
            above = middle
    return below, above
