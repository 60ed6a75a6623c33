"""Random kernels of every kind, of odd shapes: the workloads that the tests draw, scheduled at random."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from guards.kernels import Kernel
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu
from effgen.schedules import space_of


def odd_kernels(count: int, seed: int, machine: Cpu) -> list[Kernel]:
    """So many, the same for the same seed."""
    if not count:
        return []
    points = random.Random(seed)
    return [_kernel(workload, machine, points) for workload in _workloads(count, seed)]


def _kernel(workload: Workload, machine: Cpu, points: random.Random) -> Kernel:
    space = space_of(workload, machine)
    assert space is not None, workload
    return Kernel(workload.name, space.build(points.choice([space.default, *space.points()])))


def _workloads(count: int, seed: int) -> Iterator[Workload]:
    """Different float32 ones, of all kinds in turn."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
    from workloads import RANDOM

    drawn = [_draw(strategy, 2 * count // len(RANDOM) + 10, seed) for strategy in RANDOM.values()]
    in_turn = (workload for row in zip(*drawn, strict=False) for workload in row)
    yield from islice({workload.name: workload for workload in in_turn}.values(), count)


def _draw(strategy: SearchStrategy[Workload], count: int, number: int) -> list[Workload]:
    found: list[Workload] = []

    @seed(number)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(strategy)
    def take(workload: Workload) -> None:
        found.append(workload.with_dtype("float32").without_ahead)

    take()
    return found
