"""Scheduled module -> the files of a bundle that run: a shared library by TVM's code generator and the system's C++
linker, or machine code for GPUs; and the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

from effgen.compiler.cuda_build import launches_of, write_kernels
from effgen.compiler.dump import Dump
from effgen.compiler.entry import module_from_program
from effgen.compiler.link import link_program
from effgen.compiler.pipeline import ScheduledModule
from effgen.kernels.lowering import PIPELINE, tvm_target
from effgen.machines.machine import Cpu, Gpu
from effgen.machines.programs import tool_version
from effgen.machines.toolchain import cuda_program, linker
from effgen.runtime.manifest import KERNELS, LIBRARY, WEIGHTS


def write_weights(scheduled: ScheduledModule, folder: Path) -> None:
    """Write the weights of the bundle `folder`."""
    (folder / WEIGHTS).write_bytes(scheduled.program.weights.data)  # numpy's own does not say why it cannot


def write_library(
    scheduled: ScheduledModule, machine: Cpu, folder: Path, dump: Dump, objects: Path | None = None
) -> str:
    """Generate machine code for `machine` and link it into the shared library of the bundle `folder`; the kernels'
    assembly goes to `dump`, their object files to the folder `objects`. The caller has entered the TVM target.

    Returns what compiled and linked, with versions. Raises BuildError where there is no linker or it fails.
    """
    compiler = linker(machine)  # before the long part
    mod = module_from_program(scheduled.program, scheduled.mod)
    dump.write_module("tir_entry", mod)
    executable = tvm.compile(mod, tvm_target(machine), tir_pipeline=PIPELINE)
    if dump.wanted:
        dump.write("assembly", executable.mod.inspect_source("s"), "s")
    link_program(executable, machine, folder / LIBRARY, objects)
    return f"LLVM {codegen.llvm_version_major()}, linked by {tool_version(compiler)}"


def write_launches(
    scheduled: ScheduledModule, machine: Gpu, folder: Path, dump: Dump
) -> tuple[list[dict[str, Any]], str]:
    """Write the kernels of the bundle `folder`. The caller has entered the TVM target.

    Returns the launches of a run, and what compiled, with its version. Raises BuildError where nvcc is missing or
    fails.
    """
    names = dict.fromkeys(step.kernel for step in scheduled.program.steps)
    source = write_kernels({name: scheduled.mod[name] for name in names}, machine, folder / KERNELS, dump)
    return launches_of(scheduled.program, source), tool_version(cuda_program("nvcc"))
