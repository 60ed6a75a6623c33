"""Squeeze-excite from the sums of rows: batches, channels that fill no vector, every way to share the work."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.schedules import space_of

Check = Callable[..., None]

NOTHING, VECTORS, IMAGES = 0, 1, 2


@pytest.mark.parametrize(
    "workload",
    [
        SqueezeExcite(1, 14, 14, 96, 4, "silu", "sigmoid"),
        SqueezeExcite(1, 7, 7, 1152, 48, "silu", "sigmoid"),
        SqueezeExcite(2, 7, 9, 40, 10, "relu", "hard_sigmoid"),
        SqueezeExcite(3, 5, 3, 33, 7, "silu", "sigmoid"),
        SqueezeExcite(8, 3, 3, 24, 6, "relu", "sigmoid"),
        SqueezeExcite(2, 1, 1, 1, 1, "none", "none"),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: SqueezeExcite, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "squeeze_excite")


@pytest.mark.parametrize("shared", [NOTHING, VECTORS, IMAGES])
@pytest.mark.parametrize("chains", [4, 8, 16])
def test_any_share_and_chains(shared: int, chains: int, machine: Machine, check_kernel: Check) -> None:
    workload = SqueezeExcite(3, 4, 5, 84, 16, "silu", "sigmoid")
    for vectors in (1, 4):
        check_kernel(workload, machine, "squeeze_excite", {"chains": chains, "vectors": vectors, "shared": shared})


def share(workload: SqueezeExcite, cores: int) -> int:
    space = space_of(workload, replace(load_target("x86-64-v4"), cores=cores))
    assert space is not None and space.rule == "squeeze_excite"
    return space.default["shared"]


def test_what_cores_share() -> None:
    """The images of a batch where there are enough; vectors where one image is work enough; else nothing."""
    small, large = (
        SqueezeExcite(1, 7, 7, 96, 4, "silu", "sigmoid"),
        SqueezeExcite(1, 7, 7, 3840, 160, "silu", "sigmoid"),
    )
    assert share(small, 2) == NOTHING
    assert share(large, 2) == VECTORS
    assert share(replace(small, batch=8), 2) == share(replace(large, batch=8), 2) == IMAGES
    assert share(replace(large, batch=8), 64) == VECTORS
    one = space_of(small, load_target("x86-64-v4"))
    assert one is not None and IMAGES not in one.axes["shared"]
