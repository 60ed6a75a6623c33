"""The mean over an image."""

import numpy as np
from loops import inputs_of

from effgen.kernels.kinds.global_average_pool import GlobalAveragePool


def test_name_and_family() -> None:
    workload = GlobalAveragePool(1, 7, 7, 1280)
    assert (workload.name, workload.family) == ("f32_avgpool_c1280_h7", "pool")


def test_the_mean() -> None:
    pool = GlobalAveragePool(2, 3, 5, 7)
    data = inputs_of(pool)["data"].astype(np.float64)
    np.testing.assert_allclose(pool.reference(inputs_of(pool))[0][:, 0, 0], data.mean(1).mean(1))
