"""What a kernel has to do, counted from its workload."""

from dataclasses import replace

import pytest

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.machines.target import load_target
from effgen.method.latency.work import Work, work_of

MACHINE = replace(load_target("x86-64-v4"), cores=2)

POINTWISE = Conv2d(1, 14, 14, 96, 64, activation="silu")
EXPAND = Conv2d(1, 14, 14, 16, 96, activation="silu")
DEPTHWISE = Conv2d(1, 14, 14, 96, 96, (3, 3), padding=(1, 1, 1, 1), groups=96, activation="silu")


def test_counts_of_a_pointwise_kernel() -> None:
    work = work_of(POINTWISE, MACHINE, 1234.0)
    assert work == Work(
        "pointwise", False, 1234.0, 14 * 14 * 96 * 64, 4 * (14 * 14 * 160 + 64), 0, 4 * 96 * 64, 14 * 14 * 64
    )


def test_grouped_convolutions_are_a_group_of_their_own() -> None:
    grouped = replace(DEPTHWISE, groups=4)
    work = work_of(grouped, MACHINE, None)
    assert (work.group, work.cycles, work.macs) == ("grouped", 0.0, 14 * 14 * 96 * 24 * 9)
    assert work.group not in {work_of(other, MACHINE, 1.0).group for other in (POINTWISE, DEPTHWISE, EXPAND)}


def test_both_convolutions_of_an_expansion_count() -> None:
    work = work_of(ExpandDepthwise(EXPAND, DEPTHWISE), MACHINE, None)
    assert work.weight_bytes == 4 * (16 * 96 + 9 * 96)
    assert work.exponentials == 2 * 14 * 14 * 96
    assert (work.group, work.cycles) == ("expand_depthwise", 0.0)


def test_weights_of_squeeze_excite() -> None:
    assert work_of(SqueezeExcite(1, 7, 7, 96, 24, "silu", "sigmoid"), MACHINE, None).weight_bytes == 8 * 96 * 24


@pytest.mark.parametrize(("channels", "half"), [(64, False), (72, True), (40, True), (48, False)])
def test_vectors_of_half_a_register(channels: int, half: bool) -> None:
    work = work_of(replace(POINTWISE, out_channels=channels), MACHINE, 100.0)
    assert work.half is half
    assert (work.amounts[0], work.amounts[1]) == ((0.0, 100.0) if half else (100.0, 0.0))


def test_data_that_does_not_stay_near_is_far() -> None:
    large = work_of(replace(POINTWISE, height=400, width=400), MACHINE, None)
    assert large.far_bytes == large.data_bytes > MACHINE.l2_bytes


def test_facts_round_trip() -> None:
    work = work_of(POINTWISE, MACHINE, 12.5)
    assert Work.from_facts(work.facts) == work


@pytest.mark.parametrize(
    "change",
    [{"macs": -1}, {"macs": "1"}, {"macs": True}, {"cycles": float("nan")}, {"group": 3}, {"half": 1}, {"new": 1}],
    ids=str,
)
def test_other_facts_are_none(change: dict[str, object]) -> None:
    assert Work.from_facts(work_of(POINTWISE, MACHINE, 1.0).facts | change) is None
    assert Work.from_facts([1]) is None
