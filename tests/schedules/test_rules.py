"""A rule says what kernels it is for; the first that fits has them."""

import pytest
from workloads import SOME

from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.schedules import space_of
from effgen.schedules.common import rule
from effgen.schedules.space import Space

MACHINE = load_target("x86-64-v4")
POINTWISE, DENSE, WINDOW = Conv2d(1, 7, 7, 8, 8), Conv2d(1, 1, 1, 8, 8), Conv2d(1, 7, 7, 8, 8, (3, 3))


def test_a_rule_passes_over_other_kinds_and_families() -> None:
    asked: list[Workload] = []

    @rule(Conv2d, "pointwise", "dense")
    def products(workload: Conv2d, machine: Machine) -> Space | None:
        asked.append(workload)
        return None

    for workload in (POINTWISE, DENSE, WINDOW, ChannelScale(1, 7, 7, 8)):
        assert products(workload, MACHINE) is None
    assert asked == [POINTWISE, DENSE]


def test_a_rule_without_families_has_all_of_its_kind() -> None:
    @rule(Conv2d)
    def any_convolution(workload: Conv2d, machine: Machine) -> Space:
        return Space(workload.family, {}, {}, build=lambda decisions: None)

    found = [any_convolution(workload, MACHINE) for workload in (POINTWISE, DENSE, WINDOW, ChannelScale(1, 7, 7, 8))]
    assert [space and space.rule for space in found] == ["pointwise", "dense", "conv2d", None]


@pytest.mark.parametrize(
    ("target", "rules"),
    [
        (
            "x86-64-v4",
            {
                "pointwise",
                "depthwise",
                "squeeze_excite",
                "conv2d",
                "pool",
                "scale",
                "window_pool",
                "concat",
                "grouped",
                "interleave",
            },
        ),
        ("cuda-sm90", {"cuda_direct", "cuda_window", "cuda_pool", "cuda_scale", "cuda_squeeze_excite", None}),
    ],
)
def test_kernels_of_every_kind_meet_their_rule(target: str, rules: set[str | None]) -> None:
    """None: what a GPU has no kernel for."""
    spaces = [space_of(workload, load_target(target)) for workload in SOME]
    assert {space and space.rule for space in spaces} == rules
