"""Compiled kernels -> a shared library, by the C++ compiler that links for the machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from effgen.compiler.export import export
from effgen.compiler.pool import write_pool
from effgen.machines.machine import Machine
from effgen.machines.old_glibc import old_symbols
from effgen.machines.programs import tool_output
from effgen.machines.toolchain import linker


def link_library(executable: Any, machine: Machine, path: Path) -> None:
    """Write what `tvm.compile` gave as the shared library `path`, whose kernels TVM's own pool shares out; raises
    BuildError where there is no linker, or it fails."""
    _link(executable, linker(machine), path, lambda files: files)


def link_program(executable: Any, machine: Machine, path: Path, objects: Path | None = None) -> None:
    """The same for a program's `run` and `trace`, with the pool that shares out its kernels and the functions that run
    them on it; the kernels' object files go into the folder `objects`, too."""
    compiler = linker(machine)
    architecture = machine.architecture

    def with_pool(files: list[str]) -> list[str]:
        if objects is not None:
            for file in files:
                shutil.copy(file, objects)
        pool = Path(files[0]).with_name("pool.o")
        write_pool(compiler, architecture, pool)
        return [*files, str(pool)]

    _link(executable, compiler, path, with_pool, [*old_symbols(compiler, architecture).link, "-lpthread"])


def _link(
    executable: Any,
    compiler: str,
    path: Path,
    linked: Callable[[list[str]], list[str]],
    libraries: Sequence[str] = (),
) -> None:
    def link(output: str, files: list[str]) -> None:
        command = [compiler, "-shared", "-fPIC", "-o", output, *linked(files), *libraries]
        tool_output(command, f"{path}: linking with {compiler} failed")

    export(executable, path, link)
