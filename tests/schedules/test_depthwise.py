"""Depthwise convolutions, alone and expanded by the kernel: strides, paddings, and sizes that no tile divides."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effgen.kernels.depthwise import ring_bytes
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise
from effgen.kernels.tiles import fits_stack
from effgen.kernels.workload import Activation, Workload, is_exponential
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.schedules import space_of

Check = Callable[..., None]


def depthwise(batch: int, height: int, width: int, channels: int, kernel: int, stride: int, **more: object) -> Conv2d:
    pad = (kernel - 1) // 2
    options: dict[str, object] = {"padding": (pad,) * 4, "activation": "silu"} | more
    return Conv2d(
        batch, height, width, channels, channels, (kernel, kernel), (stride, stride), groups=channels, **options
    )  # type: ignore[arg-type]


def expanded(depth: int, second: Conv2d, activation: Activation = "silu") -> ExpandDepthwise:
    """`second` of an image that a pointwise convolution makes of `depth` channels."""
    first = Conv2d(second.batch, second.height, second.width, depth, second.in_channels, activation=activation)
    return ExpandDepthwise(first, second)


def mixed(*kernels: int, **options: object) -> MixedDepthwise:
    return MixedDepthwise(tuple(depthwise(2, 9, 11, 6 + 7 * i, k, 2, **options) for i, k in enumerate(kernels)))


ALONE = [
    depthwise(1, 14, 14, 96, 3, 1),
    depthwise(1, 19, 19, 48, 5, 1),
    depthwise(1, 75, 75, 24, 5, 2),
    depthwise(1, 29, 29, 16, 3, 1, residual=True),
    depthwise(2, 9, 5, 13, 3, 1, residual=True, row_sums=True),
    depthwise(2, 9, 5, 13, 3, 1, residual=True, activation_last=True, row_sums=True),
    depthwise(2, 15, 16, 10, 5, 2, padding=(1, 1, 2, 2)),  # TensorFlow's "same", padded channels
    depthwise(1, 9, 17, 8, 7, 1),
    depthwise(1, 8, 8, 16, 3, 2, padding=(0, 0, 1, 1), activation="relu"),
    depthwise(1, 6, 5, 32, 3, 1, padding=(0, 0, 0, 0), activation="none"),
    depthwise(1, 9, 9, 16, 3, 3),
    depthwise(1, 9, 8, 16, 1, 2),
    depthwise(1, 2, 8, 13, 1, 3),  # one step, which makes fewer rows than the stride
    depthwise(1, 1, 1, 16, 3, 1),
    depthwise(1, 14, 14, 96, 3, 1, row_sums=True),
    depthwise(2, 15, 16, 10, 5, 2, padding=(1, 1, 2, 2), row_sums=True),
    depthwise(1, 9, 37, 24, 7, 1, row_sums=True),
    depthwise(1, 17, 17, 21, 3, 2, padding=(0, 0, 1, 1), row_sums=True, activation="hard_swish"),
    depthwise(1, 1, 1, 16, 5, 1, row_sums=True),
]

EXPANDED = [
    expanded(24, depthwise(1, 14, 14, 96, 3, 1, row_sums=True)),
    expanded(16, depthwise(1, 37, 37, 48, 5, 2, row_sums=True)),  # odd heights leave bands of unequal use
    expanded(8, depthwise(2, 15, 16, 10, 5, 2, padding=(1, 1, 2, 2), row_sums=True)),
    expanded(7, depthwise(2, 19, 13, 40, 3, 1), activation="relu6"),
    expanded(5, depthwise(1, 9, 17, 13, 7, 1, activation="relu")),
    expanded(16, depthwise(1, 8, 8, 16, 3, 2, padding=(0, 0, 1, 1), activation="hard_swish")),
    expanded(3, depthwise(1, 6, 5, 32, 3, 1, padding=(0, 0, 0, 0), activation="none"), activation="none"),
    expanded(4, depthwise(1, 10, 10, 16, 3, 2, padding=(0, 0, 0, 0))),  # the last row and column are never read
    expanded(1, depthwise(1, 1, 2, 6, 5, 1)),
]


def stemmed(second: Conv2d, stem: Conv2d) -> ExpandDepthwise:
    """`second` of the stem's output."""
    return ExpandDepthwise(replace(stem, data_layout="NCHW"), second)


STEMMED = [
    stemmed(
        depthwise(1, 16, 16, 32, 3, 1, row_sums=True),
        Conv2d(1, 32, 32, 3, 32, (3, 3), (2, 2), (1, 1, 1, 1), activation="silu"),
    ),
    stemmed(  # bands of unequal use, padded channels, two images
        depthwise(2, 9, 16, 21, 5, 1, row_sums=True),
        Conv2d(2, 17, 31, 3, 21, (3, 3), (2, 2), (1, 1, 1, 1), activation="relu6"),
    ),
    stemmed(  # TensorFlow's "same", strides in both
        depthwise(1, 15, 15, 40, 3, 2, padding=(0, 0, 1, 1)),
        Conv2d(1, 30, 30, 3, 40, (3, 3), (2, 2), (0, 0, 1, 1), activation="hard_swish"),
    ),
    stemmed(  # no border; the last column of the image is never read
        depthwise(1, 10, 8, 8, 3, 1, activation="none"), Conv2d(1, 23, 20, 4, 8, (5, 5), (2, 2))
    ),
    stemmed(depthwise(1, 2, 1, 16, 3, 1), Conv2d(1, 4, 2, 1, 16, (4, 3), (2, 2), (1, 1, 1, 0), activation="sigmoid")),
    stemmed(  # the depthwise windows leave out the stem's last row and column
        depthwise(1, 10, 10, 16, 3, 2, padding=(0, 0, 0, 0)), Conv2d(1, 21, 21, 3, 16, (3, 3), (2, 2))
    ),
]


@pytest.mark.parametrize("workload", [mixed(3, 5, 9, row_sums=True), mixed(7, 3, activation="none")])
def test_several_side_by_side(workload: MixedDepthwise, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "depthwise")


@pytest.mark.parametrize("workload", ALONE, ids=lambda workload: workload.name)
def test_matches_reference(workload: Conv2d, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "depthwise")


@pytest.mark.parametrize("workload", EXPANDED, ids=lambda workload: workload.name)
def test_expanded_matches_reference(workload: ExpandDepthwise, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "depthwise")


@pytest.mark.parametrize("workload", STEMMED, ids=lambda workload: workload.name)
def test_stem_and_depthwise_match_reference(workload: ExpandDepthwise, machine: Machine, check_kernel: Check) -> None:
    check_kernel(workload, machine, "depthwise")


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_any_column_tile(kernel: int, stride: int, check_kernel: Check) -> None:
    """A last tile that shares columns with its neighbour is counted once in the sums."""
    machine = load_target("cpu")
    workload = depthwise(1, 8, 11 * stride, 16, kernel, stride, row_sums=True)
    space = space_of(workload, machine)
    assert space is not None
    for columns in (c for c in (1, 2, 4, 7, 10, 11) if c in space.axes["columns"]):
        check_kernel(workload, machine, "depthwise", {**space.default, "columns": columns})


@pytest.mark.parametrize(
    "workload", [ALONE[0], ALONE[14], EXPANDED[1], EXPANDED[3]], ids=lambda workload: workload.name
)
def test_any_number_of_bands(workload: Workload, check_kernel: Check) -> None:
    """Neighbouring bands make the rows that both read; the last band is moved back until it fits."""
    machine = replace(load_target("cpu"), cores=2)
    space = space_of(workload, machine)
    assert space is not None and len(space.axes["bands"]) > 2
    for bands in space.axes["bands"]:
        check_kernel(workload, machine, "depthwise", {**space.default, "bands": bands})


@pytest.mark.parametrize(("target", "asked"), [("x86-64-v4", True), ("x86-64-v3", False), ("aarch64", True)])
def test_written_lines_are_asked_for_where_the_target_says_so(target: str, asked: bool) -> None:
    """And where a decision does; a record from before there was one leaves it to the target, and still counts."""
    space = space_of(ALONE[0], load_target(target))
    assert space is not None and space.default["write_ahead"] == asked
    old = {name: value for name, value in space.default.items() if name != "write_ahead"}
    assert space.completed(old) == space.default and list(space.neighbours(old)) == list(
        space.neighbours(space.default)
    )
    other = {**space.default, "write_ahead": 1 - asked}
    for decisions, found in ((space.default, asked), (old, asked), (other, not asked)):
        assert space.contains(decisions)
        assert ("T.prefetch(T.address_of(out" in space.kernel(decisions).script()) == found


@pytest.mark.parametrize("workload", [*ALONE, *EXPANDED, *STEMMED], ids=lambda workload: workload.name)
def test_activations_in_tiles_or_of_whole_rows(workload: Workload, check_kernel: Check) -> None:
    """Whichever the rule does not take: a row is activated once, however often its tiles overlap."""
    machine = load_target("cpu")
    space = space_of(workload, machine)
    assert space is not None
    if "apart" in space.axes:
        check_kernel(workload, machine, "depthwise", {**space.default, "apart": 1 - space.default["apart"]})
    else:
        convolutions = workload.convolutions  # type: ignore[attr-defined]
        assert not any(is_exponential(each.activation) for each in convolutions)


def test_ring_beyond_the_stack(check_kernel: Check) -> None:
    """A ring that is too large for a share of the cache comes from the heap."""
    machine = replace(load_target("cpu"), l2_bytes=16 * 1024)
    workload = depthwise(1, 5, 90, 2 * machine.lanes, 3, 1, row_sums=True)
    assert not fits_stack(ring_bytes(workload, 1, machine.lanes), machine)
    check_kernel(workload, machine, "depthwise")
    check_kernel(expanded(3, workload), machine, "depthwise")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(7, 40),
    width=st.integers(7, 40),
    channels=st.integers(2, 50),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.integers(1, 3),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    depth=st.integers(0, 20),
    row_sums=st.booleans(),
)
def test_any_shape(
    height: int,
    width: int,
    channels: int,
    kernel: int,
    stride: int,
    padding: tuple[int, int, int, int],
    depth: int,
    row_sums: bool,
    check_kernel: Check,
) -> None:
    workload = depthwise(1, height, width, channels, kernel, stride, padding=padding, row_sums=row_sums)
    check_kernel(expanded(depth, workload) if depth else workload, load_target("cpu"), "depthwise")
