"""Compiled kernels -> a shared library, by the C++ compiler that links for the machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import tvm

from effgen.errors import BuildError, last_line
from effgen.machines.machine import Machine
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

    keep_and_link.output_format = "so"  # type: ignore[attr-defined]  # what TVM looks at
    try:
        executable.export_library(str(path), fcompile=keep_and_link)
    except RuntimeError as error:
        raise BuildError(
            f"{path}: linking with {compiler} failed: {last_line(str(error)) or type(error).__name__}"
        ) from None
