"""Images dealt out in turn, and cut: whole vectors and rests, several outputs, two images and more."""

from collections.abc import Callable

import pytest

from effgen.kernels.kinds.interleave import Interleave
from effgen.machines.machine import Machine


@pytest.mark.parametrize(
    "workload",
    [
        Interleave(1, 28, 28, 58, 2, (58, 58)),
        Interleave(2, 5, 7, 16, 2, (32,)),
        Interleave(1, 6, 5, 9, 3, (6, 9, 12)),
        Interleave(2, 1, 3, 1, 2, (2,)),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Interleave, machine: Machine, check_kernel: Callable[..., None]) -> None:
    check_kernel(workload, machine, "interleave", tolerance=0)
