"""Windows that lie in the padding alone: all of them, or most; the image may be narrower than they are apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine
from effgen.schedules import space_of

Check = Callable[[Workload, Machine, str], None]
CheckPoints = Callable[[Workload, Machine, int], None]

# Kernel, stride, padding over an image of 2x1: no column; less than the padding; no row; the first of two columns.
_WINDOWS = [
    ((4, 1), (3, 2), (2, 1, 3, 0)),
    ((1, 1), (1, 4), (0, 3, 0, 0)),
    ((1, 1), (5, 1), (3, 0, 0, 0)),
    ((1, 1), (4, 5), (2, 5, 3, 1)),
]


def _kinds() -> list[Workload]:
    found: list[Workload] = []
    for kernel, stride, padding in _WINDOWS:
        depthwise = Conv2d(2, 2, 1, 13, 13, kernel, stride, padding, groups=13, activation="silu")
        stem = Conv2d(2, 4, 2, 3, 13, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW", activation="silu")
        found += [
            depthwise,
            MixedDepthwise((depthwise, depthwise)),
            ExpandDepthwise(Conv2d(2, 2, 1, 5, 13, activation="silu"), depthwise),
            ExpandDepthwise(stem, depthwise),
            Conv2d(2, 2, 1, 5, 13, kernel, stride, padding),
            Conv2d(2, 2, 1, 5, 13, kernel, stride, padding, data_layout="NCHW"),
            Conv2d(2, 2, 1, 8, 16, kernel, stride, padding, groups=4),
            Pool2d("max", 2, 2, 1, 13, kernel, stride, padding),
        ]
    return found


@pytest.mark.parametrize("workload", _kinds(), ids=lambda workload: workload.name)
def test_windows_beyond_the_image(
    workload: Workload, machine: Machine, check_kernel: Check, check_points: CheckPoints
) -> None:
    space = space_of(workload, machine)
    assert space is not None
    check_kernel(workload, machine, space.rule)
    check_points(workload, machine, 2)


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(AssertionError):
        Pool2d("average", 1, 2, 2, 8, (1, 1), (2, 4), (1, 1, 1, 1))


def test_a_maximum_may_be_below_every_number(machine: Machine, check_kernel: Check) -> None:
    """Taps that all miss the image, as dilated ones may, leave minus infinity, as in PyTorch."""
    check_kernel(Pool2d("max", 1, 1, 4, 8, (2, 1), (1, 1), (1, 0, 1, 0), dilation=(2, 1)), machine, "window_pool")
