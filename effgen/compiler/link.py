"""Compiled kernels -> a shared library, by the C++ compiler that links for the machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import tvm

from effgen.compiler.export import export
from effgen.errors import BuildError
from effgen.machines.machine import Machine
from effgen.machines.programs import complaint
from effgen.machines.toolchain import linker


def link_library(executable: Any, machine: Machine, path: Path, objects: Path | None = None) -> None:
    """Write what `tvm.compile` gave as the shared library `path`, and the object files that it is linked from into the
    folder `objects`; raises BuildError where there is no linker, or it fails."""
    compiler = linker(machine)
    link = tvm.support.cc.cross_compiler(compiler, output_format="so")

    def keep_and_link(output: str, files: list[str], **options: Any) -> None:
        if objects is not None:
            for file in files:
                shutil.copy(file, objects)
        link(output, files, **options)

    try:
        export(executable, path, keep_and_link)
    except RuntimeError as error:
        said = complaint(str(error).removeprefix("Compilation error:"))  # TVM's words before the linker's
        raise BuildError(f"{path}: linking with {compiler} failed: {said}") from None
