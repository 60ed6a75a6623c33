"""The GPU at hand: whether the folder's bundles can run on it, and what is to be said of it beside any number."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from effgen.errors import BundleError
from effgen.machines.cuda_driver import cuda_driver
from gpu_compare import CompareError

# What nvidia-smi is asked for: no serial numbers, nothing of other users.
_QUERY = (
    "name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.memory", "clocks.sm", "power.limit",
    "ecc.mode.current", "persistence_mode", "temperature.gpu", "utilization.gpu",
)  # fmt: skip


def check_gpu(archs: Sequence[str]) -> dict[str, str]:
    """Name and architecture of the first GPU. Raises CompareError where there is none, or one older than `archs`."""
    oldest = min(archs, key=_number)
    wanted = f"expected an NVIDIA GPU of {oldest} or newer"
    try:
        driver = cuda_driver()
        device, _ = driver.use_first_device()
    except BundleError as error:
        raise CompareError(f"no GPU: {error}; {wanted}") from None
    name, arch = driver.device_name(device), driver.device_arch(device)
    if _number(arch) < _number(oldest):
        raise CompareError(f"{name} is {arch}: {wanted}; make the folder with --cuda-arch {arch}")
    return {"name": name, "arch": arch}


def _number(arch: str) -> int:
    return int(re.sub(r"\D", "", arch))


def check_torch() -> Any:
    """The module torch, where it has a GPU. Raises CompareError where not."""
    try:
        import torch
    except ImportError as error:
        raise CompareError(f"no PyTorch: {error}; expected torch with CUDA, or --no-peers to do without") from None
    if not torch.cuda.is_available():
        raise CompareError(f"PyTorch {torch.__version__} sees no GPU: expected a build for CUDA, or --no-peers")
    return torch


def describe(gpu: dict[str, str]) -> dict[str, str]:
    """The GPU as `check_gpu` found it, with what nvidia-smi says where it is there."""
    return {**gpu, **_nvidia_smi(_QUERY)}


def clocks() -> dict[str, str]:
    """Clocks, temperature and power of this moment; empty without nvidia-smi."""
    return _nvidia_smi(("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw"))


def _nvidia_smi(fields: Sequence[str]) -> dict[str, str]:
    command = ["nvidia-smi", "-i", "0", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in done.stdout.strip().splitlines()[0:1] for value in value.split(",")]
    return dict(zip(fields, values, strict=True)) if done.returncode == 0 and len(values) == len(fields) else {}


def software(torch: Any) -> dict[str, str]:
    """Versions of what ran; `torch` None: without peers."""
    import numpy

    found = {"python": platform.python_version(), "numpy": numpy.__version__, "system": platform.platform()}
    if torch is not None:
        cudnn = torch.backends.cudnn.version()
        found |= {"torch": torch.__version__, "cuda": str(torch.version.cuda), "cudnn": str(cudnn)}
    return found
