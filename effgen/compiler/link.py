"""Compiled kernels -> a shared library, by the C++ compiler that links for the machine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effgen.compiler.object_code import object_code
from effgen.compiler.pool import write_pool
from effgen.files.temporary import temporary_folder
from effgen.machines.machine import Machine
from effgen.machines.old_glibc import old_symbols
from effgen.machines.programs import tool_output
from effgen.machines.toolchain import linker

#: What refuses arguments calls is TVM's where that is loaded, and nothing is missing where it is not.
_WRAPPED = ("-Wl,--wrap=TVMFFIErrorSetRaisedFromCStrParts",)


def link_library(executable: Any, machine: Machine, path: Path) -> None:
    """Write what `tvm.compile` gave as the shared library `path`, whose kernels TVM's own pool shares out; raises
    BuildError where there is no linker, or it fails, and where the temporary folder is full."""
    with temporary_folder("link") as folder:
        _link(linker(machine), [_kernels(executable, folder)], path)


def link_program(
    executable: Any, machine: Machine, path: Path, objects: Path | None = None, scratch: Path | None = None
) -> None:
    """The same for a program's `run` and `trace`, with the pool that shares out its kernels and the functions that run
    them on it; the kernels' object file goes into the folder `objects`, too. `scratch`: as `write_pool` has it."""
    compiler, architecture = linker(machine), machine.architecture
    with temporary_folder("link") as folder:
        kernels, pool = _kernels(executable, folder), folder / "pool.o"
        if objects is not None:
            shutil.copy(kernels, objects)
        write_pool(compiler, architecture, pool, scratch)
        _link(compiler, [kernels, pool], path, [*_WRAPPED, *old_symbols(compiler, architecture).link, "-lpthread"])


def _kernels(executable: Any, folder: Path) -> Path:
    file = folder / "lib0.o"
    file.write_bytes(object_code(executable))
    return file


def _link(compiler: str, files: Sequence[Path], path: Path, libraries: Sequence[str] = ()) -> None:
    command: list[str | Path] = [compiler, "-shared", "-fPIC", "-o", path, *files, *libraries]
    tool_output(command, f"{path}: linking with {compiler} failed")
