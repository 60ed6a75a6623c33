"""Derived shapes, families, and names that tell all workloads apart."""

from dataclasses import replace

import pytest

from effgen.kernels.workload import ChannelScale, Conv2d, ExpandDepthwise, GlobalAveragePool, SqueezeExcite, Workload

PLAIN = Conv2d(1, 56, 56, 24, 144)
DEPTHWISE = Conv2d(1, 56, 56, 144, 144, (5, 5), (2, 2), (2, 2, 2, 2), groups=144, activation="silu")
EXPAND = Conv2d(1, 56, 56, 24, 144, activation="silu")
STEM = Conv2d(1, 224, 224, 3, 32, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW", activation="silu")
AFTER_STEM = Conv2d(1, 112, 112, 32, 32, (3, 3), (1, 1), (1, 1, 1, 1), groups=32, activation="silu", row_sums=True)


@pytest.mark.parametrize(
    ("workload", "name", "family"),
    [
        (replace(PLAIN, activation="silu"), "f32_pointwise_m3136_k24_n144_silu", "pointwise"),
        (replace(PLAIN, batch=2, residual=True), "f32_pointwise_m6272_k24_n144_b2_res", "pointwise"),
        (
            replace(PLAIN, activation="relu", residual=True, activation_last=True),
            "f32_pointwise_m3136_k24_n144_res_relu",
            "pointwise",
        ),
        (
            Conv2d(1, 9, 9, 8, 8, (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2)),
            "f32_conv2d_k3s1_i8o8_h9_d2_p2x2x2x2",
            "conv2d",
        ),
        (replace(PLAIN, width=28), "f32_pointwise_m1568_k24_n144_h56w28", "pointwise"),
        (DEPTHWISE, "f32_dwconv2d_k5s2_c144_h56_silu", "depthwise"),
        (replace(DEPTHWISE, padding=(1, 1, 2, 2)), "f32_dwconv2d_k5s2_c144_h56_p1x1x2x2_silu", "depthwise"),
        (STEM, "f32_conv2d_k3s2_i3o32_h224_nchw_silu", "conv2d"),
        (replace(PLAIN, stride=(2, 2)), "f32_conv2d_k1s2_i24o144_h56", "conv2d"),
        (Conv2d(1, 1, 1, 1280, 1000), "f32_dense_k1280_n1000", "dense"),
        (Conv2d(1, 7, 7, 8, 8, (3, 3), padding=(1, 1, 1, 1), groups=2), "f32_gconv2d_k3s1_i8o8_h7_g2", "grouped"),
        (GlobalAveragePool(1, 7, 7, 1280), "f32_avgpool_c1280_h7", "pool"),
        (ChannelScale(2, 7, 9, 1152), "f32_scale_c1152_h7w9_b2", "scale"),
        (replace(PLAIN, gated=True, residual=True), "f32_pointwise_m3136_k24_n144_gated_res", "pointwise"),
        (replace(DEPTHWISE, row_sums=True), "f32_dwconv2d_k5s2_c144_h56_silu_sums", "depthwise"),
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
        (SqueezeExcite(2, 7, 9, 96, 4, "silu", "sigmoid"), "f32_se_c96_s4_h7w9_b2_silu_sigmoid", "squeeze_excite"),
    ],
)
def test_name_and_family(workload: Workload, name: str, family: str) -> None:
    assert workload.name == name
    assert workload.family == family


def variants(base: Conv2d) -> list[Conv2d]:
    changes: list[dict[str, object]] = [
        {},
        {"batch": 2},
        {"batch": 4, "height": base.height // 2, "width": base.width // 2},  # as many rows as the base
        {"height": base.height * 2, "width": base.width // 2},
        {"width": base.width * 2},
        {"stride": (1, 2)},
        {"stride": (2, 1)},
        {"padding": (0, 0, 1, 1)},
        {"padding": (1, 1, 0, 0)},
        {"activation": "sigmoid"},
        {"residual": True},
        {"residual": True, "activation": "relu"},
        {"residual": True, "activation": "relu", "activation_last": True},
        {"data_layout": "NCHW"},
    ]
    return [replace(base, **change) for change in changes]  # type: ignore[arg-type]


def expansions(depthwise: Conv2d) -> list[ExpandDepthwise]:
    if depthwise.residual:
        return []
    expand = Conv2d(depthwise.batch, depthwise.height, depthwise.width, 24, depthwise.in_channels)
    changed = (expand, replace(expand, in_channels=16), replace(expand, activation="silu"))
    return [ExpandDepthwise(first, depthwise) for first in changed]


def test_names_are_unique() -> None:
    bases = [PLAIN, DEPTHWISE, STEM, Conv2d(1, 1, 1, 24, 144), Conv2d(1, 56, 56, 144, 144, (3, 3), groups=2)]
    workloads: set[Workload] = set()
    for base in bases:
        small = base if base.height > 1 else replace(base, height=2, width=2)
        workloads |= {base, *variants(small), *variants(replace(small, batch=3))}
    workloads |= {replace(w, gated=True) for w in workloads if isinstance(w, Conv2d) and w.family == "pointwise"}
    depthwise = [replace(w, row_sums=True) for w in workloads if isinstance(w, Conv2d) and w.family == "depthwise"]
    workloads |= {*depthwise, *(w for conv in depthwise for w in expansions(conv))}
    workloads |= {
        SqueezeExcite(batch, height, width, channels, squeezed, activation, gate)
        for batch, height, width in ((1, 4, 4), (2, 4, 4), (1, 2, 8), (1, 4, 8))
        for channels, squeezed in ((96, 4), (96, 24), (24, 4))
        for activation, gate in (("silu", "sigmoid"), ("relu", "sigmoid"), ("relu", "hard_sigmoid"))
    }  # type: ignore[arg-type]
    for kind in (GlobalAveragePool, ChannelScale):
        workloads |= {kind(b, h, w, 96) for b in (1, 2, 4) for h in (2, 4, 8) for w in (2, 4, 8)}
    names = {workload.name for workload in workloads}
    assert len(names) == len(workloads)


def test_shapes_and_counts() -> None:
    assert DEPTHWISE.out_shape == (1, 28, 28, 144)
    assert DEPTHWISE.macs == 28 * 28 * 144 * 25
    assert STEM.data_shape == (1, 3, 224, 224)
    assert STEM.out_shape == (1, 112, 112, 32)
    assert STEM.macs == 112 * 112 * 32 * 27
    assert replace(PLAIN, batch=2).rows == 2 * 56 * 56
    assert DEPTHWISE.out_shapes == (DEPTHWISE.out_shape,)
    assert replace(DEPTHWISE, row_sums=True).out_shapes == (DEPTHWISE.out_shape, (1, 28, 144))


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
    gate = SqueezeExcite(2, 7, 7, 96, 4, "silu", "sigmoid")
    assert (gate.data_shape, gate.out_shape) == ((2, 7, 96), (2, 1, 1, 96))
    assert gate.macs == 2 * 2 * 96 * 4
    assert gate.squeeze.out_channels == gate.excite.in_channels == 4
    assert gate.bytes == 4 * (2 * 7 * 96 + 2 * 96 * 4 + 96 + 4 + 2 * 96)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(AssertionError):
        Conv2d(1, 2, 2, 8, 8, (3, 3))
    with pytest.raises(AssertionError):
        Conv2d(1, 8, 8, 8, 9, (3, 3), groups=8)
    with pytest.raises(AssertionError):
        replace(DEPTHWISE, gated=True)
    with pytest.raises(AssertionError):
        replace(PLAIN, row_sums=True)
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
