"""What every kind of kernel counts of itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workloads import RANDOM, SOME, float32_bytes

from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.concat import Concat
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.workload import Workload, activation_and_numbers, clip, leaky_relu

#: What stays float32 whatever a kernel's type is.
SMALL = ("bias", "gate", "sums", "sums_out", "factor", "summand")


def small_bytes(workload: Workload) -> int:
    """Bytes of arguments that stay float32; an image as the user has it is one, and so is a gate that is made."""
    arguments = (*workload.inputs, *workload.outputs)
    stem = workload.data_layout == "NCHW"
    gate = workload.family == "squeeze_excite"
    return sum(
        argument.bytes
        for argument in arguments
        if argument.name.endswith(SMALL) or (stem and argument.name == "data") or (gate and argument.name == "out")
    )


@given(st.one_of(*RANDOM.values()))
def test_float16_halves_the_bytes(workload: Workload) -> None:
    """Those of activations and weights: biases, gates and sums stay as they are."""
    single, half = workload.with_dtype("float32"), workload.with_dtype("float16")
    assert single.bytes == float32_bytes(workload)
    assert small_bytes(single) == small_bytes(half)
    assert 2 * (half.bytes - small_bytes(half)) == single.bytes - small_bytes(single)
    assert 2 * half.weight_bytes == single.weight_bytes
    assert (half.macs, half.family, half.group, half.out_shapes) == (
        single.macs,
        single.family,
        single.group,
        single.out_shapes,
    )


@pytest.mark.parametrize(
    ("workload", "counted"),
    [
        (Conv2d(1, 14, 14, 96, 64), 2 * 14 * 14 * (96 + 64) + 2 * 96 * 64 + 4 * 64),
        (
            Conv2d(2, 7, 7, 96, 24, gated=True, residual=True),
            2 * 2 * 49 * (96 + 24 + 24) + 2 * 96 * 24 + 4 * 24 + 4 * 2 * 96,
        ),
        (
            Conv2d(1, 8, 8, 3, 16, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW"),
            4 * 3 * 64 + 2 * 16 * 27 + 4 * 16 + 2 * 16 * 16,
        ),
        (
            Conv2d(1, 8, 8, 16, 16, (3, 3), padding=(1, 1, 1, 1), groups=16, row_sums=True),
            2 * 2 * 16 * 64 + 2 * 16 * 9 + 4 * 16 + 4 * 8 * 16,
        ),
        (GlobalAveragePool(1, 7, 7, 96), 2 * 96 * 50),
        (ChannelScale(2, 7, 7, 96), 2 * 2 * 2 * 49 * 96 + 4 * 2 * 96),
        (SqueezeExcite(2, 7, 7, 96, 4, "silu", "sigmoid"), 4 * 2 * 7 * 96 + 2 * 2 * 96 * 4 + 4 * 100 + 4 * 2 * 96),
        (Concat(1, 7, 7, (24, 8), affine=True), 2 * 2 * 49 * 32 + 4 * 2 * 32),
    ],
    ids=lambda value: value.name if isinstance(value, Workload) else "",
)
def test_bytes_of_float16(workload: Workload, counted: int) -> None:
    assert workload.with_dtype("float16").bytes == counted


@pytest.mark.parametrize("workload", SOME, ids=lambda workload: workload.name)
def test_what_is_asked_for_ahead_is_not_counted(workload: Workload) -> None:
    assert workload.without_ahead == workload
    if workload.looks_ahead:
        ahead = workload.with_ahead(((2, 1, 1, 5, 8),))
        assert ahead != workload == ahead.without_ahead
        assert (ahead.bytes, ahead.macs, ahead.inputs) == (workload.bytes, workload.macs, workload.inputs)
    else:
        with pytest.raises(AssertionError):
            workload.with_ahead(((2, 1, 1, 5, 8),))


@given(numbers=st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2))
def test_activations_keep_their_numbers(numbers: list[float]) -> None:
    low, high = numbers
    assert activation_and_numbers(clip(low, high)) == ("clip", (low, high))
    assert activation_and_numbers(leaky_relu(low)) == ("leaky_relu", (low,))
    assert activation_and_numbers("relu6") == ("relu6", ())
