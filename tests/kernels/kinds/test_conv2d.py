"""One convolution: families, shapes and names; its definition against loops and against PyTorch."""

from dataclasses import replace

import numpy as np
import pytest
from loops import MACHINE, inputs_of, naive, scalar
from workloads import CONVOLUTIONS

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import INPUT_SCALE, pack_bias, pack_weight

PLAIN = Conv2d(1, 56, 56, 24, 144)
DEPTHWISE = Conv2d(1, 56, 56, 144, 144, (5, 5), (2, 2), (2, 2, 2, 2), groups=144, activation="silu")
STEM = Conv2d(1, 224, 224, 3, 32, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW", activation="silu")


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
        (replace(PLAIN, gated=True, residual=True), "f32_pointwise_m3136_k24_n144_gated_res", "pointwise"),
        (replace(DEPTHWISE, row_sums=True), "f32_dwconv2d_k5s2_c144_h56_silu_sums", "depthwise"),
    ],
)
def test_name_and_family(workload: Conv2d, name: str, family: str) -> None:
    assert workload.name == name
    assert workload.family == family


def test_shapes_and_counts() -> None:
    assert DEPTHWISE.out_shape == (1, 28, 28, 144)
    assert DEPTHWISE.macs == 28 * 28 * 144 * 25
    assert STEM.data_shape == (1, 3, 224, 224)
    assert STEM.out_shape == (1, 112, 112, 32)
    assert STEM.macs == 112 * 112 * 32 * 27
    assert replace(PLAIN, batch=2).rows == 2 * 56 * 56
    assert DEPTHWISE.out_shapes == (DEPTHWISE.out_shape,)
    assert replace(DEPTHWISE, row_sums=True).out_shapes == (DEPTHWISE.out_shape, (1, 28, 144))


def test_rows_that_a_band_reads() -> None:
    workload = Conv2d(1, 20, 21, 8, 8, (5, 5), (2, 2), (2, 2, 2, 2), groups=8)
    assert [workload.padded_rows(rows) for rows in (1, 2, workload.out_height)] == [5, 7, 23]
    assert workload.padded_row_bytes(16) == 25 * 16 * 4


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(AssertionError):
        Conv2d(1, 2, 2, 8, 8, (3, 3))
    with pytest.raises(AssertionError):
        Conv2d(1, 8, 8, 8, 9, (3, 3), groups=8)
    with pytest.raises(AssertionError):
        replace(DEPTHWISE, gated=True)
    with pytest.raises(AssertionError):
        replace(PLAIN, row_sums=True)


@pytest.mark.parametrize("workload", CONVOLUTIONS, ids=lambda workload: workload.name)
def test_convolutions_against_loops(workload: Conv2d) -> None:
    inputs = inputs_of(workload)
    found, expected = workload.reference(inputs), naive(workload, inputs)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12, atol=1e-12)
    if workload.row_sums:
        np.testing.assert_allclose(found[1], expected.sum(2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("workload", CONVOLUTIONS, ids=lambda workload: workload.name)
def test_convolutions_against_torch(workload: Conv2d) -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(1)
    shape = (workload.out_channels, workload.in_channels // workload.groups, *workload.kernel)
    weight = generator.standard_normal(shape, dtype=np.float32)
    bias = generator.standard_normal(workload.out_channels, dtype=np.float32)
    inputs = inputs_of(workload)
    inputs |= {"weight": pack_weight(workload, weight, MACHINE), "bias": pack_bias(workload, bias, MACHINE)}
    image = torch.from_numpy(inputs["data"]).double()
    image = image if workload.data_layout == "NCHW" else image.permute(0, 3, 1, 2)
    if workload.gated:
        image = image * torch.from_numpy(inputs["gate"]).permute(0, 3, 1, 2)
    top, left, bottom, right = workload.padding
    image = torch.nn.functional.pad(image, (left, right, top, bottom))
    parameters = (torch.from_numpy(weight).double(), torch.from_numpy(bias).double())
    out = torch.nn.functional.conv2d(
        image, *parameters, stride=workload.stride, groups=workload.groups, dilation=workload.dilation
    )
    sums = out.permute(0, 2, 3, 1).numpy()
    sums = sums + inputs["residual"] if workload.activation_last else sums
    expected = np.vectorize(scalar, otypes=[float])(sums, workload.activation)
    if workload.residual and not workload.activation_last:
        expected = expected + inputs["residual"]
    # Packed weights are float32 once more after they were scaled for the activation.
    tolerance = 1e-6 if workload.activation in INPUT_SCALE else 1e-12
    np.testing.assert_allclose(workload.reference(inputs)[0], expected, rtol=tolerance, atol=5 * tolerance)
