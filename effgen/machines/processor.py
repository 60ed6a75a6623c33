"""The processor at hand, as Linux tells: which CPUs this process may use, which instruction sets they have."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from itertools import chain
from pathlib import Path

from effgen.machines.cgroup import cpu_quota
from effgen.machines.identity import cpu_flags, file_text

# Instruction sets that LLVM may use in our kernels: its name -> the name in /proc/cpuinfo.
_FEATURES = {
    "x86_64": {
        "sse3": "pni", "ssse3": "ssse3", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "popcnt": "popcnt", "avx": "avx",
        "avx2": "avx2", "fma": "fma", "f16c": "f16c", "bmi": "bmi1", "bmi2": "bmi2", "lzcnt": "abm", "movbe": "movbe",
        "avxvnni": "avx_vnni", "gfni": "gfni",
        "avx512f": "avx512f", "avx512bw": "avx512bw", "avx512cd": "avx512cd", "avx512dq": "avx512dq",
        "avx512vl": "avx512vl", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2",
        "avx512vnni": "avx512_vnni", "avx512bitalg": "avx512_bitalg", "avx512vpopcntdq": "avx512_vpopcntdq",
        "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16",
    },
    "aarch64": {
        "neon": "asimd", "fullfp16": "asimdhp", "dotprod": "asimddp", "lse": "atomics", "rdm": "asimdrdm",
        "crc": "crc32", "sve": "sve", "i8mm": "i8mm", "bf16": "bf16",
    },
}  # fmt: skip


_TOPOLOGY = "sys/devices/system/cpu/cpu{}/topology"


def features_of(architecture: str) -> dict[str, str]:
    """LLVM's names of an architecture's instruction sets -> /proc/cpuinfo's; none for one that is not known."""
    return _FEATURES.get(architecture, {})


def architecture_of(mtriple: str) -> str:
    """The processor family of an LLVM triple, as `platform.machine()` spells it."""
    first = mtriple.partition("-")[0]
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(first, first)


def usable_cpus() -> tuple[int, ...]:
    """CPUs in this process's affinity mask, ascending: no more threads than these do anything at a time."""
    return tuple(sorted(os.sched_getaffinity(0)))


def default_threads(root: Path = Path("/")) -> int:
    """How many threads can work here without taking turns: at least 1.

    Physical cores of the affinity mask, because two threads on one core share its units, and at most what the control
    group may use, because threads beyond its quota are all stopped together until its next period. `root` is where
    /proc and /sys are looked for.
    """
    cores, quota = len(physical_cores(usable_cpus(), root)), cpu_quota(root)
    return max(1, cores if quota is None else min(cores, int(quota)))


def shares_of_cores(count: int, root: Path = Path("/")) -> list[tuple[int, ...]]:
    """The CPUs of `count` equal shares of the cores that `default_threads` counts, at most as many: whole cores each,
    neighbours together, those that are left over in none."""
    by_core: dict[str, list[int]] = {}
    for cpu in usable_cpus():
        by_core.setdefault(_core_of(cpu, root / _TOPOLOGY.format(cpu)), []).append(cpu)
    cores, each = list(by_core.values()), default_threads(root) // count
    return [tuple(sorted(chain(*cores[at : at + each]))) for at in range(0, count * each, each)]


def physical_cores(cpus: Iterable[int], root: Path = Path("/")) -> frozenset[str]:
    """The cores that these CPUs are threads of, each as the kernel lists its CPUs; its own where it does not tell."""
    return frozenset(_core_of(cpu, root / _TOPOLOGY.format(cpu)) for cpu in cpus)


def _core_of(cpu: int, topology: Path) -> str:
    """Kernels before 5.3 know the file by its former name alone."""
    names = ("core_cpus_list", "thread_siblings_list")
    return next((text for name in names if (text := file_text(topology / name).strip())), str(cpu))


@cache
def cpu_features() -> frozenset[str]:
    """Names of the instruction sets that this processor has, as Linux spells them."""
    return cpu_flags()


def missing_features(required: Iterable[str]) -> list[str]:
    """The instruction sets out of `required` that this processor lacks."""
    return [feature for feature in required if feature not in cpu_features()]
