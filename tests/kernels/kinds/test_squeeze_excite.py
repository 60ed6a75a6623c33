"""The gate of squeeze-excite."""

import numpy as np
from loops import inputs_of, naive

from effgen.kernels.kinds.squeeze_excite import SqueezeExcite


def test_name_and_family() -> None:
    workload = SqueezeExcite(2, 7, 9, 96, 4, "silu", "sigmoid")
    assert (workload.name, workload.family) == ("f32_se_c96_s4_h7w9_b2_silu_sigmoid", "squeeze_excite")


def test_shapes_and_counts() -> None:
    gate = SqueezeExcite(2, 7, 7, 96, 4, "silu", "sigmoid")
    assert (gate.data_shape, gate.out_shape) == ((2, 7, 96), (2, 1, 1, 96))
    assert gate.macs == 2 * 2 * 96 * 4
    assert gate.squeeze.out_channels == gate.excite.in_channels == 4
    assert gate.bytes == 4 * (2 * 7 * 96 + 2 * 96 * 4 + 96 + 4 + 2 * 96)


def test_squeeze_excite_from_row_sums() -> None:
    workload = SqueezeExcite(2, 3, 5, 19, 5, "silu", "sigmoid")
    inputs = inputs_of(workload)
    mean = inputs["sums"].astype(np.float64).sum(1) / 15
    first = {"data": mean[:, None, None], "weight": inputs["squeeze_weight"], "bias": inputs["squeeze_bias"]}
    squeezed = naive(workload.squeeze, first)  # type: ignore[arg-type]
    second = {"data": squeezed, "weight": inputs["excite_weight"], "bias": inputs["excite_bias"]}
    expected = naive(workload.excite, second)  # type: ignore[arg-type]
    np.testing.assert_allclose(workload.reference(inputs)[0], expected, rtol=1e-12)
