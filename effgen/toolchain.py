"""Programs that this machine needs for a target, and what to install where one is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from effgen.errors import BuildError
from effgen.target import Machine


def linker(machine: Machine) -> str:
    """The C++ compiler that links libraries for `machine`: a foreign one's own (`[toolchain]`), else `native_linker`.

    Raises BuildError that names the package to install.
    """
    if not machine.is_foreign:
        return native_linker()
    if machine.toolchain is None:
        raise BuildError(
            f"--target {machine.name}: no compiler that links for {machine.mtriple}; state [toolchain] compiler and "
            f"package in its TOML file"
        )
    return _found([machine.toolchain.compiler], f"links libraries for {machine.name}", machine.toolchain.package)


def native_linker() -> str:
    """The C++ compiler of this machine: $CXX, else the first of c++, g++, clang++ on the path."""
    wanted = os.environ.get("CXX")
    names = [wanted] if wanted else ["c++", "g++", "clang++"]
    return _found(names, "links the library", "g++", " or set CXX")


def emulator(machine: Machine) -> tuple[str, ...]:
    """The command that runs a foreign machine's programs here; empty for this machine's own family.

    Raises BuildError that names the package to install, or says that the target states none.
    """
    if not machine.is_foreign:
        return ()
    if machine.emulator is None:
        raise BuildError(
            f"--target {machine.name}: {machine.architecture} code does not run here, and the target states no emulator"
        )
    _found(machine.emulator.command[:1], f"runs programs for {machine.name} here", machine.emulator.package)
    return tuple(machine.emulator.command)


def _found(names: Sequence[str], purpose: str, package: str, instead: str = "") -> str:
    """The first of these programs on the path."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise BuildError(
        f"{names[0]}: not found (looked for {', '.join(names)}): it {purpose}; "
        f"install it, e.g. apt-get install {package}{',' if instead else ''}{instead}"
    )


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
