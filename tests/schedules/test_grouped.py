"""Convolutions in groups: wide and narrow ones, with and without a rest, strided, dilated, padded on one side."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.lowering import PIPELINE, tvm_target
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.schedules import space_of

Check = Callable[..., None]

SAME = (1, 1, 1, 1)
CASES = [
    Conv2d(2, 7, 9, 32, 48, (3, 3), padding=SAME, groups=2, activation="silu", residual=True),
    Conv2d(1, 7, 9, 32, 48, (3, 3), groups=2, activation="relu", residual=True, activation_last=True),
    Conv2d(1, 9, 8, 6, 6, (3, 3), padding=(1, 2, 1, 0), groups=6, dilation=(2, 1)),  # depthwise, but for the dilation
    Conv2d(1, 8, 8, 6, 12, (3, 3), (2, 2), (0, 0, 1, 1), groups=6, data_layout="NCHW"),
    Conv2d(1, 14, 14, 64, 64, (3, 3), padding=SAME, groups=16, activation="relu"),  # spread by shuffles
    Conv2d(2, 9, 7, 24, 24, (3, 3), (2, 2), SAME, groups=3, activation="gelu"),
    Conv2d(1, 9, 11, 48, 96, (3, 3), (2, 1), (0, 1, 1, 2), groups=2, dilation=(1, 2), activation="leaky_relu_0p1"),
    Conv2d(1, 6, 7, 36, 36, (3, 3), padding=SAME, groups=3),  # a rest in every group
    Conv2d(1, 5, 6, 20, 12, (3, 3), padding=SAME, groups=4, activation="sigmoid"),  # lanes loaded one by one
    Conv2d(1, 6, 6, 240, 60, groups=3, residual=True),
    Conv2d(1, 9, 9, 16, 64, (1, 1), (2, 2), groups=4),
    Conv2d(2, 5, 6, 8, 24, (5, 1), padding=(2, 0, 2, 0), groups=8, activation="relu6"),  # three outputs a channel
    Conv2d(1, 2, 2, 16, 16, (5, 5), padding=(4, 4, 4, 4), groups=2),  # rows and columns of nothing but border
    Conv2d(1, 11, 5, 8, 8, (2, 3), (3, 2), groups=4),  # rows that no window reads
]


@pytest.mark.parametrize("workload", CASES, ids=lambda workload: workload.name)
def test_matches_reference(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "grouped")


@pytest.mark.parametrize("multiplier", [2, 3, 4])
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_several_outputs_of_each_channel(vector_bytes: int, multiplier: int, check_kernel: Check) -> None:
    """Depthwise with a multiplier: a vector of outputs has fewer inputs than lanes."""
    workload = Conv2d(1, 7, 9, 16, 16 * multiplier, (3, 3), padding=SAME, groups=16)
    check_kernel(workload, replace(load_target("cpu"), vector_bytes=vector_bytes), "grouped")


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("workload", [CASES[4], CASES[7], CASES[8]], ids=lambda workload: workload.name)
def test_vectors_of_other_machines(workload: Conv2d, vector_bytes: int, check_kernel: Check) -> None:
    """LLVM makes of such vectors what this processor has."""
    check_kernel(workload, replace(load_target("cpu"), vector_bytes=vector_bytes), "grouped")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(5, 12),
    width=st.integers(5, 12),
    depth=st.integers(1, 9),
    share=st.integers(1, 20),
    groups=st.integers(2, 6),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_any_shape(check_kernel: Check, depth: int, share: int, groups: int, **shape: object) -> None:
    dilation = (2, 2) if depth == share == 1 else shape["dilation"]  # else it is depthwise
    fields = shape | {"dilation": dilation, "in_channels": groups * depth, "out_channels": groups * share}
    check_kernel(Conv2d(batch=1, groups=groups, **fields), load_target("cpu"), "grouped")  # type: ignore[arg-type]


@pytest.mark.parametrize("workload", CASES[:2] + CASES[4:6], ids=lambda workload: workload.name)
def test_points_of_the_space(workload: Conv2d, machine: Machine, check_points: Check) -> None:
    check_points(workload, machine, 4)


@pytest.mark.parametrize("target", ["aarch64", "graviton3"])
def test_compiles_for_arm(target: str) -> None:
    machine = load_target(target)
    for workload in (CASES[0], CASES[4], CASES[7], Conv2d(1, 6, 6, 8, 8, (3, 3), padding=SAME, groups=4)):
        space = space_of(workload, machine)
        assert space is not None
        func = space.build(space.default)
        tvm.compile(tvm.IRModule({workload.name: func}), tvm_target(machine), tir_pipeline=PIPELINE)


def test_cores_share_the_groups_or_the_rows() -> None:
    machine = load_target("x86-64-v3")
    for size, channels, groups in ((56, 24, 3), (7, 368, 46)):
        workload = Conv2d(1, size, size, channels, channels, (3, 3), padding=SAME, groups=groups)
        space = space_of(workload, machine)
        assert space is not None
        assert space.default["bands"] * space.default["chunks"] >= machine.cores
