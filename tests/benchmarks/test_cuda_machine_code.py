"""What nvcc makes of B0's kernels, by its own account: no GPU is needed to see that nothing spills, and that the wide
loads and the tensor cores that the kernels were written for are there."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cuda_calls import needs

from effgen.driver import CompileRequest, compile_bundle
from effgen.network import NetworkRequest
from effgen.runtime.manifest import KERNELS

pytestmark = [pytest.mark.slow, needs("nvcc", "cuobjdump", "nvdisasm")]

ARCH = "sm_90"
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "cuda_machine_code.py"
#: nvcc keeps one address of two kernels in local memory, at 32 registers of the 255 that there are: stored once, loaded
#: once, outside of every loop.
ONE_ADDRESS = {"f32_dwconv2d_k5s1_c1152_h7_silu_sums_kernel", "f32_dwconv2d_k5s1_c672_h14_silu_sums_kernel"}


@pytest.fixture(scope="module")
def machine_code() -> Iterator[ModuleType]:
    """The benchmark, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location("cuda_machine_code", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module", params=["float32", "float16"])
def kernels(
    machine_code: ModuleType, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Any]:
    """B0's kernels in one type."""
    bundle = tmp_path_factory.mktemp("b0") / request.param
    compile_bundle(CompileRequest(NetworkRequest(), bundle, target="cuda-sm90", dtype=request.param))
    found: list[Any] = machine_code.kernels_of(bundle / KERNELS, ARCH)
    return found


def test_registers_and_shared_memory_suffice(kernels: list[Any]) -> None:
    assert len(kernels) > 40
    for kernel in kernels:
        assert kernel.registers <= 255 and kernel.shared <= 48 * 1024, kernel
        if kernel.name in ONE_ADDRESS:
            assert kernel.spilled <= 8 and kernel.count("STL") <= 1 and kernel.count("LDL") <= 1, kernel
        else:
            assert kernel.spilled == 0, kernel


def test_matrix_products(kernels: list[Any]) -> None:
    products = [kernel for kernel in kernels if "_pointwise_" in kernel.name]
    assert len(products) == 19
    for kernel in products:
        assert kernel.count("LDG", "128") and kernel.count("LDS", "128") and kernel.count("STG", "128"), kernel
        if kernel.name.startswith("f16"):
            assert kernel.count("HMMA") and not kernel.count("FFMA"), kernel
        else:
            assert kernel.count("FFMA") >= 32 and not kernel.count("HMMA"), kernel


def test_depthwise_loads_vectors(kernels: list[Any]) -> None:
    windows = [kernel for kernel in kernels if "_dwconv2d_" in kernel.name]
    assert len(windows) == 12
    for kernel in windows:
        # Four channels a thread: 16 bytes of float32, 8 of float16.
        width = "64" if kernel.name.startswith("f16") else "128"
        assert kernel.count("LDG", width) >= 9 and kernel.count("FFMA"), kernel


def test_table(machine_code: ModuleType, kernels: list[Any]) -> None:
    lines = machine_code.table(kernels).splitlines()
    assert len(lines) == len(kernels) + 2 and len({line.count("|") for line in lines}) == 1
