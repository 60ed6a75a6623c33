"""Machines read from `targets/*.toml`. No Python per machine.

A file states everything, or asks for detection and is filled in from the machine that effgen runs on.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

from effgen.errors import TargetError, candidates
from effgen.files.bounded import MOST_TOML_BYTES, UnreadableError, read_text
from effgen.machines import detection
from effgen.machines.calibrated import load_calibrated
from effgen.machines.llvm import check_llvm
from effgen.machines.machine import Cpu, Gpu, Machine
from effgen.machines.microarchitecture import microarchitecture_from_llvm, this_microarchitecture
from effgen.machines.processor import default_threads
from effgen.machines.target_file import (
    GPU,
    Costs,
    Cuda,
    Llvm,
    TargetFile,
    inherited_costs,
    target_file_from_text,
)


def target_names() -> list[str]:
    """Names that `load_target` knows: one for each file in `targets/`."""
    files = resources.files("effgen.targets").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_target(name_or_path: str | Path) -> Machine:
    """The machine called so in `targets/`, or described by the TOML file at this path.

    Raises TargetError for an unknown name, a file that makes no sense, and a processor that LLVM does not know.
    """
    text = str(name_or_path)
    stated = stated_target(text)
    if stated.llvm is not None and _is_path(text):  # about what ships, a test asks LLVM
        check_llvm(text, stated.llvm.model_dump(include={"mtriple", "mcpu", "mattr"}), stated.features or ())
    return _machine(Path(text).name.removesuffix(".toml"), stated)


def this_cpu(calibrated: bool = True) -> Cpu:
    """The machine that effgen runs on, which `--target cpu` means; `calibrated`: with the costs that were measured of
    it, where they were."""
    return _cpu("cpu", stated_target("cpu"), calibrated)


def check_target(name_or_path: str | Path) -> None:
    """Raise TargetError where `load_target` would, without the seconds that detecting this machine takes."""
    stated_target(str(name_or_path))


def stated_target(name: str) -> TargetFile:
    """What the file of this name or path says."""
    if _is_path(name):
        return target_file_from_text(name, _read(Path(name)))
    if name not in target_names():
        raise TargetError(
            f"--target {name}: expected a name or a path to a TOML file; {candidates(name, target_names())}"
        )
    return target_file_from_text(
        f"targets/{name}.toml", (resources.files("effgen.targets") / f"{name}.toml").read_text()
    )


def _is_path(name: str) -> bool:
    return name.endswith(".toml") or os.sep in name


def _read(path: Path) -> str:
    try:
        return read_text(path, MOST_TOML_BYTES)
    except UnreadableError as error:
        raise TargetError(f"--target {path}: {error}: expected a readable TOML file") from None


def _machine(name: str, stated: TargetFile) -> Machine:
    return _gpu(name, stated) if stated.processor is GPU else _cpu(name, stated)


def _cpu(name: str, stated: TargetFile, calibrated: bool = True) -> Cpu:
    vector = stated.vector or detection.detected_vector()
    cache_bytes = stated.cache or detection.detected_caches()
    features = detection.detected_features() if stated.features is None else stated.features
    costs, costs_of = _costs(stated, vector.bytes, calibrated)
    return Cpu(
        **_shared_fields(name, stated, stated.llvm or detection.detected_llvm()),
        vector_bytes=vector.bytes,
        vector_registers=vector.registers,
        l1_bytes=cache_bytes.l1,
        l2_bytes=cache_bytes.l2,
        cores=stated.cores or default_threads(),
        features=tuple(features),
        costs=costs,
        costs_of=costs_of,
        microarchitecture=_microarchitecture(stated),
    )


def _costs(stated: TargetFile, vector_bytes: int, calibrated: bool) -> tuple[Costs, str]:
    """The file's; else, of this computer's CPU, those that were measured of it; else what is inherited. And whose they
    are."""
    if stated.costs is not None:
        return stated.costs, "the target's file"
    inherited, whose = inherited_costs(vector_bytes, _microarchitecture(stated))
    found = load_calibrated(vector_bytes) if calibrated and stated.llvm is None else None
    if found is None:
        return inherited, whose
    return found.over(inherited), f"effgen calibrate, {found.date[:10]}"


def _microarchitecture(stated: TargetFile) -> str:
    """What the file says, by its own key or as LLVM's CPU; this computer's where the CPU is left to detection."""
    if stated.microarchitecture is not None:
        return stated.microarchitecture
    return this_microarchitecture() if stated.llvm is None else microarchitecture_from_llvm(stated.llvm.mcpu)


def _gpu(name: str, stated: TargetFile) -> Gpu:
    found = detection.found_gpu() if stated.cuda is None else None
    facts: Cuda = stated.cuda or (found.facts if found else detection.DEFAULT_GPU)
    host = stated.llvm or Llvm(mtriple=detection.host_triple(), mcpu="generic")
    return Gpu(
        **_shared_fields(name, stated, host),
        archs=(facts.arch,),
        multiprocessors=facts.multiprocessors,
        shared_memory=facts.shared_memory,
        l2=facts.l2,
    )


def _shared_fields(name: str, stated: TargetFile, llvm: Llvm) -> dict[str, Any]:
    options = {"mabi": llvm.mabi, "mfloat-abi": llvm.float_abi, "cl-opt": llvm.cl_opt or None}
    return {
        "name": name,
        "description": stated.description,
        "toolchain": stated.toolchain,
        "emulator": stated.emulator,
        "tolerance": stated.tolerance,
        "measure": stated.measure,
        "mtriple": llvm.mtriple,
        "mcpu": llvm.mcpu,
        "mattr": tuple(llvm.mattr),
        "llvm_options": {key: value for key, value in options.items() if value is not None},
    }
