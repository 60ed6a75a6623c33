"""Squeeze-excite's scale, vectorised or not."""

from collections.abc import Callable

import pytest

from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.machines.machine import Machine

Check = Callable[[ChannelScale, Machine, str], None]


@pytest.mark.parametrize(
    "workload",
    [
        ChannelScale(1, 7, 7, 1152),
        ChannelScale(2, 56, 56, 40),
        ChannelScale(2, 5, 3, 33),
        ChannelScale(1, 1, 1, 2),
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: ChannelScale, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "scale")
