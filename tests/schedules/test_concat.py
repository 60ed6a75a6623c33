"""Images joined along their channels, with and without a batch norm and an activation on the way."""

from collections.abc import Callable

import pytest

from effgen.kernels.kinds.concat import Concat
from effgen.machines.machine import Machine

Check = Callable[[Concat, Machine, str], None]


@pytest.mark.parametrize(
    "workload",
    [
        Concat(1, 14, 14, (256, *[32] * 5), affine=True, activation="relu"),
        Concat(1, 35, 35, (64, 64, 96, 32)),
        Concat(2, 7, 5, (58, 3, 17), affine=True),
        Concat(1, 9, 9, (24,), affine=True, activation="relu6"),
        Concat(1, 1, 1, (2, 1), activation="hard_swish"),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Concat, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "concat")
