"""What this machine can do with each target: build for it, run it, or why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeGuard, assert_never

from effgen.errors import EffgenError
from effgen.machines import detection
from effgen.machines.machine import Cpu, Gpu, Machine
from effgen.machines.processor import missing_features
from effgen.machines.target import load_target, target_names
from effgen.machines.target_file import cuda_number
from effgen.machines.toolchain import check_programs, emulator
from effgen.words import Route

#: Native: as fast as it is. Emulated: right or wrong, but no times. No: see `why_not`.
Running = Literal["native", "emulated", "no"]


@dataclass(frozen=True)
class Ability:
    """One target seen from this machine. `why_not` says what is missing to build, else what is missing to run."""

    name: str
    description: str
    compiles_for: str
    builds: bool
    runs: Running
    why_not: str
    route: Route


def abilities() -> tuple[Ability, ...]:
    """Every shipped target, by name."""
    return tuple(ability_of(load_target(name)) for name in target_names())


def ability_of(machine: Machine) -> Ability:
    """What this machine can do with one target."""
    cannot_build = _reason_not_to_build(machine)
    runs, cannot_run = running_here(machine)
    return Ability(
        name=machine.name,
        description=machine.description,
        compiles_for=machine.compiles_for,
        builds=not cannot_build,
        runs=runs,
        why_not=cannot_build or cannot_run,
        route=machine.measure.route,
    )


def _reason_not_to_build(machine: Machine) -> str:
    try:
        check_programs(machine)
    except EffgenError as error:
        return str(error)
    return ""


def of_this_family(machine: Machine) -> TypeGuard[Cpu]:
    """Whether it is a CPU of this computer's family: whose kernels can be timed here, one by one, where it has no
    instruction sets that this one lacks."""
    return isinstance(machine, Cpu) and not machine.is_foreign


def times_kernels_here(machine: Machine) -> TypeGuard[Cpu]:
    """Whether its kernels can be timed here, one by one."""
    return of_this_family(machine) and not missing_features(machine.features)


def running_here(machine: Machine) -> tuple[Running, str]:
    """How a library for the machine runs here, and why it does not."""
    match machine:
        case Cpu():
            return _running_on_cpu(machine)
        case Gpu():
            return _running_on_gpu(machine)
        case _:
            assert_never(machine)


def _running_on_cpu(machine: Cpu) -> tuple[Running, str]:
    if machine.is_foreign:
        try:
            emulator(machine)
        except EffgenError as error:
            return "no", str(error)
        return "emulated", ""
    missing = missing_features(machine.features)
    return ("no", f"this processor lacks {', '.join(missing)}") if missing else ("native", "")


def _running_on_gpu(machine: Gpu) -> tuple[Running, str]:
    found = detection.found_gpu()
    if found is None:
        return "no", "no NVIDIA GPU found here"
    if cuda_number(found.facts.arch) < cuda_number(machine.arch):
        return "no", f"{found.name} is {found.facts.arch}, older than {machine.arch}"
    return "native", ""
