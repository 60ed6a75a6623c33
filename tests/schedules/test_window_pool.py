"""Maximum and mean of windows: borders on every side, spread and wide windows, channels that fill no vector."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effgen.kernels.kinds.pool2d import Pool2d
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.schedules import space_of

Check = Callable[[Pool2d, Machine, str], None]


@pytest.mark.parametrize(
    "workload",
    [
        Pool2d("max", 1, 112, 112, 64, (3, 3), (2, 2), (1, 1, 1, 1)),
        Pool2d("max", 2, 13, 11, 58, (3, 3), (2, 2), (0, 0, 1, 1)),
        Pool2d("max", 1, 9, 12, 3, (3, 2), (1, 2), (4, 0, 1, 0), dilation=(3, 2)),
        Pool2d("average", 1, 35, 35, 192, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1, 1, 1)),
        Pool2d("average", 2, 8, 9, 40, (2, 3), (2, 1), (1, 2, 1, 2)),
        Pool2d("average", 1, 7, 7, 5, (3, 3), (2, 2), (1, 1, 2, 2), (1, 1, 1, 1)),
        Pool2d("average", 1, 56, 56, 128, (2, 2), (2, 2)),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Pool2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "window_pool")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from(["max", "average"]),
    height=st.integers(5, 14),
    width=st.integers(5, 14),
    channels=st.integers(1, 70),
    kernel=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 1)] * 4),
)
def test_any_shape(check_kernel: Check, **shape: object) -> None:
    check_kernel(Pool2d(batch=1, **shape), load_target("cpu"), "window_pool")  # type: ignore[arg-type]


def test_small_images_are_not_shared_out() -> None:
    machine = load_target("x86-64-v4")
    small, large = Pool2d("max", 1, 6, 6, 16, (2, 2)), Pool2d("max", 1, 112, 112, 64, (3, 3), (2, 2))
    shared = [space.default["parallel"] for w in (small, large) if (space := space_of(w, machine)) is not None]
    assert shared == [0, 1]
