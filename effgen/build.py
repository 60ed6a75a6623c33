"""Scheduled module -> shared library and weights, by TVM's code generator and the system's C++ linker."""

from __future__ import annotations

from pathlib import Path

import tvm

from effgen.dump import Dump
from effgen.errors import BuildError
from effgen.kernels import lowering
from effgen.pipeline import ScheduledModule
from effgen.runtime.manifest import LIBRARY, WEIGHTS
from effgen.schedules import tvm_target
from effgen.target import Machine
from effgen.toolchain import linker


def write_library(scheduled: ScheduledModule, machine: Machine, folder: Path, dump: Dump) -> None:
    """Generate machine code for `machine` and link it into the shared library of the bundle `folder`, and write the
    weights beside it; the kernels' assembly goes to `dump`. The caller has entered the TVM target.

    Raises BuildError where there is no linker or it fails.
    """
    compiler = linker(machine)
    executable = tvm.compile(scheduled.mod, tvm_target(machine), tir_pipeline=lowering.PIPELINE)
    if dump.wanted:
        dump.write("assembly", executable.mod.inspect_source("s"), "s")
    path = folder / LIBRARY
    try:
        executable.export_library(str(path), fcompile=tvm.support.cc.cross_compiler(compiler, output_format="so"))
    except RuntimeError as error:
        raise BuildError(f"{path}: linking with {compiler} failed: {last_line(error)}") from None
    scheduled.program.weights.astype("<f4", copy=False).tofile(folder / WEIGHTS)


def last_line(error: Exception) -> str:
    """The last line of an error's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
