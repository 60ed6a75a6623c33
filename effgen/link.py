"""Compiled kernels -> a shared library, by the C++ compiler that links for the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm

from effgen.errors import BuildError
from effgen.target import Machine
from effgen.toolchain import linker


def link_library(executable: Any, machine: Machine, path: Path) -> None:
    """Write what `tvm.compile` gave as the shared library `path`; raises BuildError where there is no linker, or it
    fails."""
    compiler = linker(machine)
    try:
        executable.export_library(str(path), fcompile=tvm.support.cc.cross_compiler(compiler, output_format="so"))
    except RuntimeError as error:
        raise BuildError(f"{path}: linking with {compiler} failed: {last_line(error)}") from None


def last_line(error: BaseException) -> str:
    """The last line of an error's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
