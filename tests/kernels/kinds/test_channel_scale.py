"""An image times a number a channel."""

import numpy as np
from loops import inputs_of

from effgen.kernels.kinds.channel_scale import ChannelScale


def test_name_and_family() -> None:
    workload = ChannelScale(2, 7, 9, 1152)
    assert (workload.name, workload.family) == ("f32_scale_c1152_h7w9_b2", "scale")


def test_the_product() -> None:
    scale = ChannelScale(2, 3, 5, 7)
    inputs = inputs_of(scale)
    expected = inputs["data"].astype(np.float64) * inputs["gate"].reshape(2, 1, 1, 7)
    np.testing.assert_array_equal(scale.reference(inputs)[0], expected)
