"""Depthwise convolutions: kernels, strides, paddings and sizes that no tile divides."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effgen.kernels.workload import Conv2d
from effgen.target import Machine, load_target

Check = Callable[[Conv2d, Machine, str], None]


def depthwise(batch: int, height: int, width: int, channels: int, kernel: int, stride: int, **more: object) -> Conv2d:
    pad = (kernel - 1) // 2
    options: dict[str, object] = {"padding": (pad,) * 4, "activation": "silu"} | more
    return Conv2d(
        batch, height, width, channels, channels, (kernel, kernel), (stride, stride), groups=channels, **options
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "workload",
    [
        depthwise(1, 14, 14, 96, 3, 1),
        depthwise(1, 19, 19, 48, 5, 1),
        depthwise(1, 75, 75, 24, 5, 2),
        depthwise(1, 29, 29, 16, 3, 1, residual=True),
        depthwise(2, 15, 16, 10, 5, 2, padding=(1, 1, 2, 2)),  # TensorFlow's "same", padded channels
        depthwise(1, 9, 17, 8, 7, 1),
        depthwise(1, 8, 8, 16, 3, 2, padding=(0, 0, 1, 1), activation="relu"),
        depthwise(1, 6, 5, 32, 3, 1, padding=(0, 0, 0, 0), activation="none"),
        depthwise(1, 1, 1, 16, 3, 1),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "rule:depthwise")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(7, 40),
    width=st.integers(7, 40),
    channels=st.integers(2, 50),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.integers(1, 3),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
)
def test_any_shape(
    height: int,
    width: int,
    channels: int,
    kernel: int,
    stride: int,
    padding: tuple[int, int, int, int],
    check_kernel: Check,
) -> None:
    workload = depthwise(1, height, width, channels, kernel, stride, padding=padding)
    check_kernel(workload, load_target("cpu"), "rule:depthwise")
