"""Machines: what the compiler must know about one, read from `targets/*.toml`. No Python per machine.

A file states everything, or asks for detection and is filled in from the machine that effgen runs on.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from effgen.errors import TargetError, candidates
from effgen.machines import detection
from effgen.machines.cpu import architecture_of, usable_cpus
from effgen.machines.target_file import (
    Cuda,
    Emulator,
    Llvm,
    Measure,
    TargetFile,
    Tolerance,
    Toolchain,
    target_file_from_text,
)


@dataclass(frozen=True)
class Gpu:
    """A GPU whose kernels are compiled for the oldest of `archs`; the library holds machine code for each of them.

    `shared_memory`: the most bytes that a block may ask for; `l2` bytes.
    """

    archs: tuple[str, ...]
    multiprocessors: int
    shared_memory: int
    l2: int

    @property
    def arch(self) -> str:
        """What kernels may use."""
        return self.archs[0]


@dataclass(frozen=True)
class Machine:
    """One machine, complete. `features` are spelled as in /proc/cpuinfo; `cores` may be replaced by the caller.

    With a `gpu` the kernels run there, and `mtriple`, `mcpu` are of the host code that launches them; `lanes` is what
    one thread moves at once.
    """

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
    llvm_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    gpu: Gpu | None = None
    toolchain: Toolchain | None = None
    emulator: Emulator | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    measure: Measure = field(default_factory=Measure)

    @property
    def lanes(self) -> int:
        """float32 lanes of one vector register."""
        return self.vector_bytes // 4

    @property
    def processor(self) -> str:
        """What kernels are measured on, for records: LLVM's name of the CPU, or the GPU's architecture."""
        return self.mcpu if self.gpu is None else self.gpu.arch

    @property
    def architecture(self) -> str:
        """The processor family, as `platform.machine()` spells it."""
        return architecture_of(self.mtriple)

    @property
    def multiplies_by_lane(self) -> bool:
        """Whether a vector is multiplied by one lane of another in one instruction: by NEON, not on x86."""
        return self.architecture == "aarch64"

    @property
    def is_foreign(self) -> bool:
        """Whether this computer's processors are of another family, and cannot run the code. A GPU's bundle holds none
        for them: the runtime launches its kernels."""
        return self.gpu is None and self.architecture != platform.machine()

    @property
    def llvm(self) -> dict[str, Any]:
        """The CPU's own description: what `tvm.target.Target` takes."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.mtriple, "mcpu": self.mcpu}
        return target | ({"mattr": list(self.mattr)} if self.mattr else {}) | dict(self.llvm_options)

    @property
    def tvm(self) -> dict[str, Any]:
        """What kernels are compiled for, as `tvm.target.Target` takes it."""
        if self.gpu is None:
            return self.llvm
        return {"kind": "cuda", "arch": self.gpu.arch, "host": self.llvm}


def target_names() -> list[str]:
    """Names that `load_target` knows: one for each file in `targets/`."""
    files = resources.files("effgen.targets").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_target(name_or_path: str | Path) -> Machine:
    """The machine called so in `targets/`, or described by the TOML file at this path."""
    text = str(name_or_path)
    return _machine(Path(text).name.removesuffix(".toml"), stated_target(text))


def check_target(name_or_path: str | Path) -> None:
    """Raise TargetError where `load_target` would, without the seconds that detecting this machine takes."""
    stated_target(str(name_or_path))


def stated_target(name: str) -> TargetFile:
    """What the file of this name or path says."""
    if name.endswith(".toml") or os.sep in name:
        return target_file_from_text(name, _read(Path(name)))
    if name not in target_names():
        raise TargetError(
            f"--target {name}: expected a name or a path to a TOML file; {candidates(name, target_names())}"
        )
    return target_file_from_text(
        f"targets/{name}.toml", (resources.files("effgen.targets") / f"{name}.toml").read_text()
    )


def with_cuda_archs(machine: Machine, archs: tuple[str, ...]) -> Machine:
    """The machine with machine code for these architectures, ascending. Raises TargetError for a CPU."""
    if machine.gpu is None:
        raise TargetError(f"--cuda-arch {','.join(archs)}: --target {machine.name} is a CPU; expected a CUDA target")
    return replace(machine, gpu=replace(machine.gpu, archs=archs))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise TargetError(f"--target {path}: {reason}: expected a readable TOML file") from None


def _machine(name: str, stated: TargetFile) -> Machine:
    shared: dict[str, Any] = {
        "name": name,
        "description": stated.description,
        "toolchain": stated.toolchain,
        "emulator": stated.emulator,
        "tolerance": stated.tolerance,
        "measure": stated.measure,
    }
    return _gpu_machine(stated, shared) if stated.is_cuda else _cpu_machine(stated, shared)


def _cpu_machine(stated: TargetFile, shared: dict[str, Any]) -> Machine:
    vector = stated.vector or detection.detected_vector()
    cache_bytes = stated.cache or detection.detected_caches()
    features = detection.detected_features() if stated.features is None else stated.features
    return Machine(
        **shared,
        **_llvm_fields(stated.llvm or detection.detected_llvm()),
        vector_bytes=vector.bytes,
        vector_registers=vector.registers,
        l1_bytes=cache_bytes.l1,
        l2_bytes=cache_bytes.l2,
        cores=stated.cores or len(usable_cpus()),
        features=tuple(features),
    )


def _gpu_machine(stated: TargetFile, shared: dict[str, Any]) -> Machine:
    found = detection.found_gpu() if stated.cuda is None else None
    facts: Cuda = stated.cuda or (found.facts if found else detection.DEFAULT_GPU)
    host = stated.llvm or Llvm(mtriple=detection.host_triple(), mcpu="generic")
    return Machine(
        **shared,
        **_llvm_fields(host),
        vector_bytes=16,  # the widest load of one thread
        vector_registers=32,
        l1_bytes=facts.shared_memory,
        l2_bytes=facts.l2,
        cores=1,  # of the host: one thread launches
        features=(),
        gpu=Gpu((facts.arch,), facts.multiprocessors, facts.shared_memory, facts.l2),
    )


def _llvm_fields(llvm: Llvm) -> dict[str, Any]:
    options = {"mabi": llvm.mabi, "mfloat-abi": llvm.float_abi, "cl-opt": llvm.cl_opt or None}
    return {
        "mtriple": llvm.mtriple,
        "mcpu": llvm.mcpu,
        "mattr": tuple(llvm.mattr),
        "llvm_options": {key: value for key, value in options.items() if value is not None},
    }
