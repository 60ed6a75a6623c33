"""Programs that this machine needs for a target, and what to install where one is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from effgen.errors import BuildError
from effgen.machines.machine import Machine
from effgen.machines.programs import required_tool
from effgen.machines.target_file import Emulator, Toolchain


def check_programs(machine: Machine) -> None:
    """Raise BuildError where a program is missing that building for `machine` takes; it names what to install."""
    linker(machine)
    for name in machine.cuda_programs:
        cuda_program(name)


def linker(machine: Machine) -> str:
    """The C++ compiler that links libraries for `machine`: a foreign one's own, else `native_linker`.

    Raises BuildError that names the package to install.
    """
    if not machine.is_foreign:
        return native_linker()
    return cross_compiler(machine.name, machine.mtriple, machine.toolchain)


def native_linker() -> str:
    """The C++ compiler of this machine: $CXX, else the first of c++, g++, clang++ on the path."""
    wanted = os.environ.get("CXX")
    names = [wanted] if wanted else ["c++", "g++", "clang++"]
    return required_tool(names, "links the library", "apt-get install g++, or set CXX")


def cross_compiler(target: str, mtriple: str, stated: Toolchain | None) -> str:
    """The C++ compiler that the target states. Raises BuildError where it states none, or that one is missing."""
    if stated is None:
        raise BuildError(
            f"target {target}: no compiler that links for {mtriple}; state [toolchain] compiler and package in its "
            f"TOML file"
        )
    return required_tool([stated.compiler], f"links libraries for {target}", f"apt-get install {stated.package}")


def emulator(machine: Machine) -> tuple[str, ...]:
    """The command that runs a foreign machine's programs here; empty for this machine's own family.

    Raises BuildError as `emulator_command` does.
    """
    if not machine.is_foreign:
        return ()
    return emulator_command(machine.name, machine.architecture, machine.emulator)


def emulator_command(target: str, architecture: str, stated: Emulator | None) -> tuple[str, ...]:
    """The command that the target states, with its program's path.

    Raises BuildError that names the package to install, or says that the target states none.
    """
    if stated is None:
        raise BuildError(f"target {target}: {architecture} code does not run here, and the target states no emulator")
    name, *arguments = stated.command
    program = required_tool([name], f"runs programs for {target} here", f"apt-get install {stated.package}")
    return (program, *arguments)


def cuda_program(name: str) -> str:
    """A program of the CUDA toolkit (nvcc, cuobjdump): of $CUDA_HOME, else of the packages from the index, else on the
    path. Raises BuildError that names the package to install."""
    folders = [Path(os.environ["CUDA_HOME"]) / "bin"] if "CUDA_HOME" in os.environ else []
    folders += [*_packaged_cuda(), *(Path(folder) for folder in os.get_exec_path()), Path("/usr/local/cuda/bin")]
    found = shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise BuildError(
            f"{name}: not found (looked in $CUDA_HOME, in Python's packages and on the path): CUDA targets need it; "
            "install it, e.g. pip install 'effgen[cuda]'"
        )
    return found


def _packaged_cuda() -> list[Path]:
    """Where the index's packages (nvidia-cuda-nvcc and its like) put their programs."""
    spec = importlib.util.find_spec("nvidia")
    roots = spec.submodule_search_locations or [] if spec else []
    return [folder for root in roots for folder in sorted(Path(root).glob("cu*/bin"))]
