"""Dense layers: batches of one to a few rows, channels that fill no vector."""

from collections.abc import Callable

import pytest

from effgen.kernels.workload import Conv2d
from effgen.schedules.dense import default_dense
from effgen.target import Machine, load_target

Check = Callable[[Conv2d, Machine, str], None]


@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 1, 1, 96, 4, activation="silu"),
        Conv2d(1, 1, 1, 6, 144, activation="sigmoid"),
        Conv2d(1, 1, 1, 320, 1000),
        Conv2d(5, 1, 1, 40, 24, activation="silu"),
        Conv2d(8, 1, 1, 33, 17, residual=True),
        Conv2d(61, 1, 1, 16, 16),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "rule:dense")


def test_only_long_layers_are_shared_between_cores() -> None:
    machine = load_target("x86-64-v4")
    assert not default_dense(Conv2d(1, 1, 1, 96, 4), machine).parallel
    assert default_dense(Conv2d(1, 1, 1, 1280, 1000), machine).parallel
