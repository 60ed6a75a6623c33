"""Dense windows: the stem on both layouts, square and odd kernels, dilated ones, strided and padded 1x1."""

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


@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 32, 32, 3, 32, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW", activation="silu"),
        Conv2d(2, 29, 31, 3, 40, (3, 3), (2, 2), (0, 0, 1, 1), data_layout="NCHW", activation="silu"),
        Conv2d(1, 29, 31, 3, 40, (3, 3), (2, 2), (0, 0, 1, 1), activation="silu"),
        Conv2d(1, 30, 30, 3, 16, (7, 7), (2, 2), (3, 3, 3, 3), data_layout="NCHW", activation="relu"),
        Conv2d(1, 14, 14, 32, 64, (3, 3), padding=(1, 1, 1, 1), activation="silu", residual=True),
        Conv2d(1, 8, 9, 32, 48, (1, 1), (2, 2)),
        Conv2d(1, 9, 9, 8, 24, (3, 3), padding=(1, 1, 1, 1), activation="gelu_tanh"),
        Conv2d(1, 9, 9, 8, 24, (3, 3), activation="clip_m1p0_0p75"),
        Conv2d(1, 9, 9, 8, 24, (3, 3), residual=True, activation="elu_1p5"),
        Conv2d(1, 9, 9, 8, 16, (3, 3), activation="mish", residual=True, activation_last=True),
        Conv2d(1, 6, 6, 3, 8, data_layout="NCHW"),
        Conv2d(1, 13, 11, 7, 13, (5, 3), (1, 2), (2, 0, 1, 1), activation="hard_sigmoid"),
        Conv2d(1, 13, 11, 7, 24, (3, 3), (1, 2), (2, 4, 2, 4), dilation=(2, 4), activation="relu"),
        Conv2d(2, 9, 9, 16, 24, (1, 1), (2, 2), residual=True, activation_last=True, activation="relu"),
        Conv2d(1, 9, 17, 24, 40, (1, 7), padding=(0, 3, 0, 3), residual=True, activation_last=True, activation="relu6"),
        Conv2d(2, 14, 14, 64, 64, (3, 3), padding=(1, 1, 1, 1), activation="relu", residual=True, activation_last=True),
        Conv2d(1, 9, 8, 17, 3, (3, 3), padding=(2, 1, 2, 1), dilation=(2, 1), activation="silu"),
        Conv2d(1, 7, 7, 512, 48, (3, 3), padding=(1, 1, 1, 1), activation="relu"),  # pixels set apart in the copy
        Conv2d(1, 14, 14, 256, 64, stride=(2, 2), residual=True, activation="relu", activation_last=True),
        Conv2d(2, 7, 5, 17, 33, stride=(3, 2), padding=(0, 1, 1, 0)),
        Conv2d(1, 17, 17, 32, 48, (1, 7), padding=(0, 3, 0, 3), activation="relu"),
        Conv2d(1, 17, 17, 32, 48, (7, 1), padding=(3, 0, 3, 0), activation="relu"),
        Conv2d(1, 11, 11, 16, 24, (1, 3), (2, 2), (0, 1, 0, 1)),
        Conv2d(1, 35, 3, 9, 40, (3, 3), (2, 2)),
        Conv2d(2, 5, 1, 1, 1, (3, 1)),
        Conv2d(1, 3, 3, 17, 17, (3, 3), padding=(1, 1, 1, 1)),
        Conv2d(1, 2, 2, 8, 16, (5, 5), padding=(4, 4, 4, 4)),  # rows and columns of nothing but border
    ],
    ids=lambda workload: workload.name,
)
def test_matches_reference(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "conv2d")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(9, 20),
    width=st.integers(9, 20),
    depth=st.integers(1, 9),
    channels=st.integers(1, 40),
    kernel=st.tuples(st.integers(1, 5), st.integers(2, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    layout=st.sampled_from(["NHWC", "NCHW"]),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_any_shape(check_kernel: Check, **shape: object) -> None:
    renamed = {"in_channels": shape.pop("depth"), "out_channels": shape.pop("channels")}
    workload = Conv2d(batch=1, data_layout=shape.pop("layout"), **shape, **renamed)  # type: ignore[arg-type]
    check_kernel(workload, load_target("cpu"), "conv2d")


SLICED = [
    Conv2d(2, 7, 9, 96, 40, (3, 3), padding=(1, 1, 1, 1), activation="silu", residual=True, activation_last=True),
    Conv2d(1, 9, 8, 64, 24, (1, 1), (2, 2)),
    Conv2d(1, 12, 7, 64, 80, (3, 1), (2, 1), dilation=(2, 1)),
]


@pytest.mark.parametrize("copied", [0, 1])
@pytest.mark.parametrize("workload", SLICED, ids=lambda workload: workload.name)
def test_slices_of_channels(workload: Conv2d, copied: int, machine: Machine, check_kernel: Check) -> None:
    """What is kept from slice to slice, and asked for meanwhile, with tiles and bands that are moved back."""
    machine = replace(machine, cores=2)
    space = space_of(workload, machine)
    assert space is not None
    for length in (machine.lanes, 2 * machine.lanes):
        decisions = {**space.default, "columns": 4, "vectors": 2, "chunks": 1, "bands": 2, "prefetch": 1}
        decisions |= {"slice": length, "copied": copied or int(any(workload.padding))}
        assert space.contains(decisions)
        check_kernel(workload, machine, "conv2d", decisions)


def test_only_weights_from_memory_are_sliced() -> None:
    machine = load_target("x86-64-v4")
    # They fit; they do not; few rows use what a network drives out; hardly any weights.
    for size, channels, sliced in ((56, 64, False), (56, 512, True), (14, 64, True), (14, 16, False)):
        space = space_of(Conv2d(1, size, size, channels, channels, (3, 3), padding=(1, 1, 1, 1)), machine)
        assert space is not None
        assert (space.default["slice"] < channels) == bool(space.default["prefetch"]) == sliced


@pytest.mark.parametrize("target", ["aarch64", "rpi4"])
def test_compiles_for_arm(target: str) -> None:
    machine = load_target(target)
    for workload in (*SLICED, Conv2d(1, 30, 30, 3, 16, (7, 7), (2, 2), (3, 3, 3, 3), data_layout="NCHW")):
        space = space_of(workload, machine)
        assert space is not None
        for decisions in (space.default, {**space.default, "slice": min(space.axes["slice"]), "prefetch": 1}):
            func = space.build(decisions)
            tvm.compile(tvm.IRModule({workload.name: func}), tvm_target(machine), tir_pipeline=PIPELINE)


def test_channels_are_shared_out_where_rows_are_few() -> None:
    machine = load_target("x86-64-v4")
    space = space_of(Conv2d(1, 7, 7, 512, 512, (3, 3), padding=(1, 1, 1, 1)), machine)
    assert space is not None
    assert space.default["bands"] * space.default["chunks"] >= machine.cores
