"""Machines: what the compiler must know about one, read from `targets/*.toml`. No Python per machine.

A file states everything, or says `detect = true` and is filled in from the machine that effgen runs on.
Only detection loads TVM (for LLVM's name of this CPU); checking a bundle's features needs `/proc/cpuinfo` alone.
"""

from __future__ import annotations

import os
import platform
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from effgen.cpu import cpu_features, usable_cpus
from effgen.errors import TargetError, candidates
from effgen.validation import StrictModel, first_problem

# Instruction sets that LLVM may use in our kernels: its name -> the name in /proc/cpuinfo.
_X86_FEATURES = {
    "sse3": "pni", "ssse3": "ssse3", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "popcnt": "popcnt", "avx": "avx",
    "avx2": "avx2", "fma": "fma", "f16c": "f16c", "bmi": "bmi1", "bmi2": "bmi2", "lzcnt": "abm", "movbe": "movbe",
    "avxvnni": "avx_vnni", "gfni": "gfni",
    "avx512f": "avx512f", "avx512bw": "avx512bw", "avx512cd": "avx512cd", "avx512dq": "avx512dq",
    "avx512vl": "avx512vl", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni", "avx512bitalg": "avx512_bitalg", "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16",
}  # fmt: skip
_ARM_FEATURES = {"neon": "asimd", "fullfp16": "asimdhp", "dotprod": "asimddp", "sve": "sve"}
_DEFAULT_CACHE_BYTES = {1: 32 * 1024, 2: 512 * 1024}


@dataclass(frozen=True)
class Machine:
    """One machine, complete. `features` are spelled as in /proc/cpuinfo; `cores` may be replaced by the caller."""

    name: str
    description: str
    mtriple: str
    mcpu: str
    mattr: tuple[str, ...]
    vector_bytes: int
    vector_registers: int
    l1_bytes: int
    l2_bytes: int
    cores: int
    features: tuple[str, ...]

    @property
    def lanes(self) -> int:
        """float32 lanes of one vector register."""
        return self.vector_bytes // 4

    @property
    def llvm(self) -> dict[str, Any]:
        """The compiler's own description: what `tvm.target.Target` takes."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.mtriple, "mcpu": self.mcpu}
        return target | {"mattr": list(self.mattr)} if self.mattr else target


_Positive = Annotated[int, Field(ge=1)]


class _Llvm(StrictModel):
    mtriple: str
    mcpu: str
    mattr: list[str] = []


class _Vector(StrictModel):
    bytes: Annotated[int, Field(ge=16, le=256, multiple_of=16)]
    registers: Annotated[int, Field(ge=8, le=64)]


class _Cache(StrictModel):
    l1: _Positive
    l2: _Positive


class _TargetFile(StrictModel):
    """A machine as TOML: every table, or `detect = true` and only what detection should not decide."""

    description: str
    detect: bool = False
    llvm: _Llvm | None = None
    vector: _Vector | None = None
    cache: _Cache | None = None
    cores: _Positive | None = None
    features: list[str] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [key for key in ("llvm", "vector", "cache", "cores", "features") if getattr(self, key) is None]
        if missing and not self.detect:
            raise ValueError(f"expected {', '.join(missing)}; state them, or detect = true for this machine")
        return self


def target_names() -> list[str]:
    """Names that `load_target` knows: one for each file in `targets/`."""
    files = resources.files("effgen.targets").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_target(name_or_path: str | Path) -> Machine:
    """The machine called so in `targets/`, or described by the TOML file at this path."""
    text = str(name_or_path)
    return _machine(Path(text).name.removesuffix(".toml"), _stated(text))


def check_target(name_or_path: str | Path) -> None:
    """Raise TargetError where `load_target` would, without the seconds that detecting this machine takes."""
    _stated(str(name_or_path))


def _stated(name: str) -> _TargetFile:
    """What the file of this name or path says."""
    if name.endswith(".toml") or os.sep in name:
        return _parsed(name, _read(Path(name)))
    if name not in target_names():
        raise TargetError(
            f"--target {name}: expected a name or a path to a TOML file; {candidates(name, target_names())}"
        )
    return _parsed(f"targets/{name}.toml", (resources.files("effgen.targets") / f"{name}.toml").read_text())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise TargetError(f"--target {path}: {reason}: expected a readable TOML file") from None


def _parsed(where: str, text: str) -> _TargetFile:
    try:
        return _TargetFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"{where}: not TOML: {error}") from None
    except ValidationError as error:
        raise TargetError(f"{where}: {first_problem(error, _TargetFile)}") from None


def _machine(name: str, stated: _TargetFile) -> Machine:
    llvm = stated.llvm or _detected_llvm()
    vector = stated.vector or _detected_vector()
    cache_bytes = stated.cache or _Cache(l1=_detected_cache(1), l2=_detected_cache(2))
    features = _detected_features() if stated.features is None else stated.features
    return Machine(
        name=name,
        description=stated.description,
        mtriple=llvm.mtriple,
        mcpu=llvm.mcpu,
        mattr=tuple(llvm.mattr),
        vector_bytes=vector.bytes,
        vector_registers=vector.registers,
        l1_bytes=cache_bytes.l1,
        l2_bytes=cache_bytes.l2,
        cores=stated.cores or len(usable_cpus()),
        features=tuple(features),
    )


# Detection: what LLVM, /proc and /sys say about this computer.


@cache
def _detected_llvm() -> _Llvm:
    import tvm

    def ask(name: str) -> Any:
        return tvm.get_global_func(name)()

    mcpu = str(ask("tvm.codegen.llvm.GetHostCPUName"))
    triple = f"{platform.machine()}-linux-gnu"
    host = {str(key): bool(value) for key, value in ask("tvm.codegen.llvm.GetHostCPUFeatures").items()}
    described = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": mcpu})
    implied = {str(feature) for feature in tvm.get_global_func("target.llvm_get_cpu_features")(described)}
    # A virtual machine may hide instruction sets that the CPU's name implies.
    hidden = sorted(name for name in implied & _feature_names().keys() if not host.get(name, False))
    return _Llvm(mtriple=triple, mcpu=mcpu, mattr=[f"-{name}" for name in hidden])


def _detected_vector() -> _Vector:
    present = cpu_features()
    if {"avx512f", "avx512vl"} <= present:
        return _Vector(bytes=64, registers=32)
    if "avx2" in present:
        return _Vector(bytes=32, registers=16)
    return _Vector(bytes=16, registers=32 if platform.machine() == "aarch64" else 16)


def _detected_cache(level: int) -> int:
    """Bytes of the first core's data or unified cache of this level."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, size = (index / "type").read_text().strip(), (index / "size").read_text().strip()
        if kind != "Instruction" and int((index / "level").read_text()) == level and size.endswith("K"):
            return int(size[:-1]) * 1024
    return _DEFAULT_CACHE_BYTES[level]


def _detected_features() -> list[str]:
    return [name for name in _feature_names().values() if name in cpu_features()]


def _feature_names() -> dict[str, str]:
    return _ARM_FEATURES if platform.machine() == "aarch64" else _X86_FEATURES
