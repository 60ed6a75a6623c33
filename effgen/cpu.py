"""The processor at hand, as Linux tells: which CPUs this process may use, which instruction sets they have."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def usable_cpus() -> tuple[int, ...]:
    """CPUs in this process's affinity mask, ascending: the default thread count everywhere is their number."""
    return tuple(sorted(os.sched_getaffinity(0)))


@cache
def cpu_features() -> frozenset[str]:
    """Names of the instruction sets that this processor has, as Linux spells them."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def missing_features(required: Iterable[str]) -> list[str]:
    """The instruction sets out of `required` that this processor lacks."""
    return [feature for feature in required if feature not in cpu_features()]
