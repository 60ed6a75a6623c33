"""Random inputs of every kind of kernel, and what must not matter of them."""

import numpy as np
import pytest
from loops import inputs_of
from numpy.typing import NDArray
from workloads import SOME

from effgen.kernels.packing import input_shapes
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("workload", SOME, ids=lambda workload: workload.name)
def test_shapes_scale_and_filling_lanes(workload: Workload, target: str) -> None:
    machine = load_target(target)
    inputs = inputs_of(workload, machine)
    assert {name: array.shape for name, array in inputs.items()} == input_shapes(workload, machine)
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in inputs.values())
    outputs = workload.reference(inputs)
    assert tuple(out.shape for out in outputs) == workload.out_shapes
    assert all(out.dtype == np.float64 and 0.05 < np.sqrt((out**2).mean()) < 50 for out in outputs)
    # Zeros fill the last vector up; whatever else stands there changes nothing.
    poisoned = {name: poison(array) if "weight" in name or "bias" in name else array for name, array in inputs.items()}
    for found, expected in zip(workload.reference(poisoned), outputs, strict=True):
        np.testing.assert_array_equal(found, expected)


def poison(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """NaN in every lane of the last block that is zero throughout, that is, in those that only fill it up."""
    copy = array.copy()
    lanes = ~copy[-1].reshape(-1, copy.shape[-1]).any(0)
    copy[-1][..., lanes] = np.nan
    return copy
