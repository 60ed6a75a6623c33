"""Packed weights hold every weight once, in the stated place, and zeros elsewhere."""

import numpy as np
import pytest

from effgen.kernels.packing import bias_shape, pack_bias, pack_weight, weight_shape
from effgen.kernels.workload import Conv2d
from effgen.target import load_target

MACHINE = load_target("x86-64-v4")


@pytest.mark.parametrize(
    ("channels", "lanes", "vectors"), [(32, 16, 2), (24, 8, 3), (40, 8, 5), (1000, 8, 125), (13, 16, 1), (6, 16, 1)]
)
def test_channels_become_vectors(channels: int, lanes: int, vectors: int) -> None:
    workload = Conv2d(1, 9, 9, 5, channels, (3, 2))
    weight = np.random.default_rng(0).standard_normal((channels, 5, 3, 2), dtype=np.float32)
    packed = pack_weight(workload, weight, MACHINE)
    assert packed.shape == weight_shape(workload, MACHINE) == (vectors, 3, 2, 5, lanes)
    assert packed.flags.c_contiguous
    flat = packed.transpose(0, 4, 3, 1, 2).reshape(vectors * lanes, 5, 3, 2)
    np.testing.assert_array_equal(flat[:channels], weight)
    assert not flat[channels:].any()
    bias = weight[:, 0, 0, 0]
    packed_bias = pack_bias(workload, bias, MACHINE)
    assert packed_bias.shape == bias_shape(workload, MACHINE) == (vectors, lanes)
    np.testing.assert_array_equal(packed_bias.ravel()[:channels], bias)
    assert not packed_bias.ravel()[channels:].any()


def test_depthwise_has_no_depth_axis() -> None:
    workload = Conv2d(1, 9, 9, 48, 48, (3, 3), groups=48)
    weight = np.arange(48 * 9, dtype=np.float32).reshape(48, 1, 3, 3)
    packed = pack_weight(workload, weight, MACHINE)
    assert packed.shape == (3, 3, 3, 16)
    assert packed[2, 1, 0, 5] == weight[37, 0, 1, 0]


def test_grouped_keeps_its_channels() -> None:
    workload = Conv2d(1, 9, 9, 8, 12, (3, 3), groups=2)
    weight = np.arange(12 * 4 * 9, dtype=np.float32).reshape(12, 4, 3, 3)
    packed = pack_weight(workload, weight, MACHINE)
    assert packed.shape == (12, 3, 3, 4)
    assert packed[7, 2, 1, 3] == weight[7, 3, 2, 1]
    assert bias_shape(workload, MACHINE) == (12,)
