"""A bundle on a real GPU; what can be tested without one is in test_cuda_bundle.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cuda_calls import needs
from networks import relative_error

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.judge.case import golden_pair
from effgen.machines.detection import found_gpu
from effgen.network import NetworkRequest

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(found_gpu() is None, reason="there is no NVIDIA GPU, or no driver"),
    needs("nvcc"),
]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_golden_pair(tiny_spec: Path, tmp_path: Path, dtype: str) -> None:
    bundle = tmp_path / "bundle"
    compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec)), bundle, target="cuda", dtype=dtype))
    model = effgen.load(bundle)
    image, expected = golden_pair(bundle)
    found = model(image)
    assert relative_error(found, expected) <= model.manifest.tolerance["rel_l2"]
    np.testing.assert_array_equal(model(image), found)
