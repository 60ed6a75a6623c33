"""Images joined along their channels, with and without a batch norm and an activation on the way."""

from collections.abc import Callable

import pytest

from effgen.kernels.workload import Concat
from effgen.machines.target import Machine

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


def test_the_name_counts_equal_parts() -> None:
    assert Concat(1, 14, 14, (256, 32, 32, 32), True, "relu").name == "f32_concat_c256_c32x3_h14_affine_relu"
    assert Concat(2, 14, 7, (24,), True).name == "f32_affine_c24_h14w7_b2"
