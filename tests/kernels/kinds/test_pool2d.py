"""Pooling by windows."""

import numpy as np
import pytest
from loops import inputs_of
from workloads import POOLS

from effgen.kernels.kinds.pool2d import Pool2d


@pytest.mark.parametrize("workload", POOLS)
def test_windows_against_torch(workload: Pool2d) -> None:
    functional = pytest.importorskip("torch").nn.functional
    torch = pytest.importorskip("torch")
    inputs = inputs_of(workload)
    image = torch.from_numpy(inputs["data"]).double().permute(0, 3, 1, 2)
    top, left, bottom, right = workload.padding
    if workload.mode == "max":
        padded = functional.pad(image, (left, right, top, bottom), value=-torch.inf)
        expected = functional.max_pool2d(padded, workload.kernel, workload.stride, dilation=workload.dilation)
    else:
        marks = functional.pad(torch.ones_like(image), _torch_pads(workload.counted), value=1.0)
        rest = tuple(a - b for a, b in zip(workload.padding, workload.counted, strict=True))
        marks, image = functional.pad(marks, _torch_pads(rest)), functional.pad(image, (left, right, top, bottom))
        sums, counts = (
            functional.avg_pool2d(x, workload.kernel, workload.stride, divisor_override=1) for x in (image, marks)
        )
        expected = sums / counts
    found = workload.reference(inputs)[0]
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-12, atol=1e-12)


def _torch_pads(pads: tuple[int, ...]) -> tuple[int, ...]:
    top, left, bottom, right = pads
    return (left, right, top, bottom)


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(AssertionError):
        Pool2d("max", 1, 2, 2, 8, (3, 3))
    with pytest.raises(AssertionError):
        Pool2d("max", 1, 7, 7, 8, (3, 3), counted=(1, 1, 1, 1))
    with pytest.raises(AssertionError):
        Pool2d("average", 1, 7, 7, 8, (3, 3), dilation=(2, 2))
