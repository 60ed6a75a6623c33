"""Images joined along their channels."""

import numpy as np
import pytest
from loops import inputs_of

from effgen.kernels.kinds.concat import Concat


@pytest.mark.parametrize(
    ("workload", "name"),
    [
        (Concat(1, 14, 14, (256, 32, 32, 32), True, "relu"), "f32_concat_c256_c32x3_h14_affine_relu"),
        (Concat(2, 14, 7, (24,), True), "f32_affine_c24_h14w7_b2"),
        (Concat(2, 14, 7, (24,)), "f32_concat_c24_h14w7_b2"),
    ],
)
def test_names(workload: Concat, name: str) -> None:
    """One image alone is scaled and shifted; neither is another kernel."""
    assert workload.name == name
    assert workload.family == "concat"


def test_joined_images() -> None:
    workload = Concat(2, 3, 5, (7, 2), affine=True, activation="relu")
    inputs = inputs_of(workload)
    joined = np.concatenate([inputs["data0"], inputs["data1"]], 3).astype(np.float64)
    expected = np.maximum(joined * inputs["factor"] + inputs["summand"], 0)
    np.testing.assert_array_equal(workload.reference(inputs)[0], expected)
