"""A depthwise convolution joined with the one before it counts and computes what both do."""

from dataclasses import replace

import numpy as np
import pytest
from loops import inputs_of, naive
from workloads import EXPANSIONS

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise

PLAIN = Conv2d(1, 56, 56, 24, 144)
DEPTHWISE = Conv2d(1, 56, 56, 144, 144, (5, 5), (2, 2), (2, 2, 2, 2), groups=144, activation="silu")
EXPAND = Conv2d(1, 56, 56, 24, 144, activation="silu")
STEM = Conv2d(1, 224, 224, 3, 32, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW", activation="silu")
AFTER_STEM = Conv2d(1, 112, 112, 32, 32, (3, 3), (1, 1), (1, 1, 1, 1), groups=32, activation="silu", row_sums=True)


@pytest.mark.parametrize(
    ("workload", "name", "family"),
    [
        (
            ExpandDepthwise(EXPAND, replace(DEPTHWISE, row_sums=True)),
            "f32_expand_k24_silu_dwconv2d_k5s2_c144_h56_silu_sums",
            "depthwise",
        ),
        (ExpandDepthwise(PLAIN, DEPTHWISE), "f32_expand_k24_dwconv2d_k5s2_c144_h56_silu", "depthwise"),
        (
            ExpandDepthwise(STEM, AFTER_STEM),
            "f32_conv2d_k3s2_i3o32_h224_nchw_silu_dwconv2d_k3s1_c32_h112_silu_sums",
            "depthwise",
        ),
    ],
)
def test_name_and_family(workload: ExpandDepthwise, name: str, family: str) -> None:
    assert workload.name == name
    assert workload.family == family


def test_joined_kernels_count_what_they_join() -> None:
    sums = replace(DEPTHWISE, row_sums=True)
    whole = ExpandDepthwise(EXPAND, sums)
    assert (whole.data_shape, whole.out_shapes) == (EXPAND.data_shape, sums.out_shapes)
    assert whole.macs == EXPAND.macs + DEPTHWISE.macs
    # The expanded image is neither written nor read.
    assert whole.bytes == EXPAND.bytes + sums.bytes - 2 * 4 * 56 * 56 * 144
    assert sums.bytes == DEPTHWISE.bytes + 4 * 28 * 144
    first = ExpandDepthwise(STEM, AFTER_STEM)
    assert (first.data_shape, first.data_layout) == ((1, 3, 224, 224), "NCHW") and not whole.expand.is_stem
    assert first.macs == STEM.macs + AFTER_STEM.macs


def test_impossible_pairs_are_refused() -> None:
    for expand in (replace(EXPAND, out_channels=96), replace(EXPAND, residual=True), replace(EXPAND, gated=True)):
        with pytest.raises(AssertionError):
            ExpandDepthwise(expand, DEPTHWISE)
    with pytest.raises(AssertionError):
        ExpandDepthwise(EXPAND, replace(DEPTHWISE, residual=True))
    for stem in (replace(STEM, data_layout="NHWC"), replace(STEM, residual=True)):
        with pytest.raises(AssertionError):
            ExpandDepthwise(stem, AFTER_STEM)
    with pytest.raises(AssertionError):
        ExpandDepthwise(STEM, AFTER_STEM, ahead=((1, 1, 1, 5, 8),))
    for expand in (
        replace(EXPAND, dilation=(2, 2)),
        EXPAND.with_ahead(((1, 1, 1, 5, 8),)),
        EXPAND.with_dtype("float16"),
    ):
        with pytest.raises(AssertionError):
            ExpandDepthwise(expand, DEPTHWISE)


@pytest.mark.parametrize("workload", EXPANSIONS)
def test_expand_depthwise_is_both_in_turn(workload: ExpandDepthwise) -> None:
    """The padding is of zeros after the first activation, not before it."""
    inputs = inputs_of(workload)
    layers = (
        {name.removeprefix(prefix): array for name, array in inputs.items()} for prefix in ("expand_", "depthwise_")
    )
    first, second = layers
    expected = naive(workload.depthwise, {**second, "data": naive(workload.expand, first)})  # type: ignore[dict-item]
    out, sums = workload.reference(inputs)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sums, expected.sum(2), rtol=1e-12, atol=1e-12)
