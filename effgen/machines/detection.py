"""What LLVM, /proc, /sys and the CUDA driver say about this computer. Only LLVM's name of the CPU needs TVM."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from effgen.errors import BundleError
from effgen.machines.cuda_driver import cuda_driver
from effgen.machines.processor import cpu_features, features_of
from effgen.machines.target_file import Cache, Cuda, Llvm, Vector

_DEFAULT_CACHE_BYTES = {1: 32 * 1024, 2: 512 * 1024}

#: The GPU that `--target cuda` means where none is found: an A100.
DEFAULT_GPU = Cuda(arch="sm_80", multiprocessors=108, shared_memory=166_912, l2=40 * 1024 * 1024)

# CUdevice_attribute: the number of multiprocessors, the shared memory that a block may opt in to, the L2 cache.
_MULTIPROCESSORS, _SHARED_MEMORY, _L2 = 16, 97, 38


@cache
def detected_llvm() -> Llvm:
    """This CPU as LLVM knows it, without the instruction sets that a virtual machine hides."""
    import tvm

    def ask(name: str) -> Any:
        return tvm.get_global_func(name)()

    mcpu = str(ask("tvm.codegen.llvm.GetHostCPUName"))
    triple = host_triple()
    host = {str(key): bool(value) for key, value in ask("tvm.codegen.llvm.GetHostCPUFeatures").items()}
    described = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": mcpu})
    implied = {str(feature) for feature in tvm.get_global_func("target.llvm_get_cpu_features")(described)}
    hidden = sorted(name for name in implied & features_of(platform.machine()).keys() if not host.get(name, False))
    return Llvm(mtriple=triple, mcpu=mcpu, mattr=[f"-{name}" for name in hidden])


def host_triple() -> str:
    """LLVM's triple of this computer."""
    return f"{platform.machine()}-linux-gnu"


def detected_vector() -> Vector:
    """The widest vectors that this CPU has."""
    present = cpu_features()
    if {"avx512f", "avx512vl"} <= present:
        return Vector(bytes=64, registers=32)
    if "avx2" in present:
        return Vector(bytes=32, registers=16)
    return Vector(bytes=16, registers=32 if platform.machine() == "aarch64" else 16)


def detected_caches() -> Cache:
    """The first core's caches."""
    return Cache(l1=_cache_bytes(1), l2=_cache_bytes(2))


def _cache_bytes(level: int) -> int:
    """Bytes of the first core's data or unified cache of this level."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, size = (index / "type").read_text().strip(), (index / "size").read_text().strip()
        if kind != "Instruction" and int((index / "level").read_text()) == level and size.endswith("K"):
            return int(size[:-1]) * 1024
    return _DEFAULT_CACHE_BYTES[level]


def detected_features() -> list[str]:
    """The instruction sets out of those that LLVM may use in our kernels, as /proc/cpuinfo spells them."""
    return [name for name in features_of(platform.machine()).values() if name in cpu_features()]


@dataclass(frozen=True)
class FoundGpu:
    """The first GPU that the driver lists."""

    name: str
    facts: Cuda


@cache
def found_gpu() -> FoundGpu | None:
    """The GPU of this computer; None where there is none, or no driver."""
    try:
        driver = cuda_driver()
        device = driver.first_device()
    except BundleError:
        return None
    facts = Cuda(
        arch=driver.device_arch(device),
        multiprocessors=driver.attribute(device, _MULTIPROCESSORS),
        shared_memory=driver.attribute(device, _SHARED_MEMORY),
        l2=driver.attribute(device, _L2),
    )
    return FoundGpu(driver.device_name(device), facts)
