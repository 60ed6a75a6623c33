"""Global average pooling: shared out by channels, by rows, or not at all."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.schedules import space_of
from effgen.schedules.space import Decisions

Check = Callable[[GlobalAveragePool, Machine, str], None]

ROWS = 2


@pytest.mark.parametrize(
    "workload",
    [
        GlobalAveragePool(1, 7, 7, 1280),
        GlobalAveragePool(2, 56, 56, 96),
        GlobalAveragePool(1, 9, 7, 28),
        GlobalAveragePool(3, 1, 5, 6),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: GlobalAveragePool, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "pool")


def default(workload: GlobalAveragePool, machine: Machine) -> Decisions:
    space = space_of(workload, machine)
    assert space is not None
    return space.default


def test_rows_are_shared_where_channels_are_few(check_kernel: Check) -> None:
    machine = replace(load_target("cpu"), cores=16)
    workload = GlobalAveragePool(1, 112, 112, 32)
    assert default(workload, machine)["shared"] == ROWS
    check_kernel(workload, machine, "pool")


def test_default_tile_divides_the_vectors() -> None:
    machine = load_target("x86-64-v4")
    for channels in np.arange(8, 2560, 8):
        decisions = default(GlobalAveragePool(1, 7, 7, int(channels)), machine)
        width = 16 if channels % 16 == 0 else 8
        assert (channels // width) % decisions["vectors"] == 0
