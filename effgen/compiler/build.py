"""Scheduled module -> the files of a bundle that run: a shared library by TVM's code generator and the system's C++
linker, or machine code for GPUs; and the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

from effgen.compiler.cuda_build import launches_of, write_kernels
from effgen.compiler.dump import Dump
from effgen.compiler.entry import module_from_program
from effgen.compiler.link import link_library
from effgen.compiler.pipeline import ScheduledModule
from effgen.kernels import lowering
from effgen.machines.programs import tool_version
from effgen.machines.target import Machine
from effgen.machines.toolchain import cuda_program, linker
from effgen.runtime.manifest import KERNELS, LIBRARY, WEIGHTS
from effgen.schedules import tvm_target


@dataclass(frozen=True)
class Built:
    """What a manifest says of code that was written: the processor, as `device`, with its launches if it is a GPU; and
    the `compiler` with its version."""

    device: dict[str, Any]
    compiler: str


def write_code(
    scheduled: ScheduledModule, machine: Machine, folder: Path, dump: Dump, objects: Path | None = None
) -> Built:
    """Write the machine code and the weights of the bundle `folder`, and the object files of a CPU's kernels into the
    folder `objects`. The caller has entered the TVM target.

    Raises BuildError where a linker or nvcc is missing or fails.
    """
    scheduled.program.weights.tofile(folder / WEIGHTS)
    if machine.gpu is None:
        write_library(scheduled, machine, folder, dump, objects)
        return Built({"kind": "cpu"}, f"LLVM {codegen.llvm_version_major()}, linked by {tool_version(linker(machine))}")
    names = dict.fromkeys(step.kernel for step in scheduled.program.steps)
    source = write_kernels({name: scheduled.mod[name] for name in names}, machine, folder / KERNELS, dump)
    launches = launches_of(scheduled.program, source)
    device = {"kind": "cuda", "archs": list(machine.gpu.archs), "launches": launches}
    return Built(device, tool_version(cuda_program("nvcc")))


def write_library(
    scheduled: ScheduledModule, machine: Machine, folder: Path, dump: Dump, objects: Path | None = None
) -> None:
    """Generate machine code for `machine` and link it into the shared library of the bundle `folder`; the kernels'
    assembly goes to `dump`, their object files to the folder `objects`. The caller has entered the TVM target.

    Raises BuildError where there is no linker or it fails.
    """
    linker(machine)  # before the long part
    mod = module_from_program(scheduled.program, scheduled.mod)
    dump.write_module("tir_entry", mod)
    executable = tvm.compile(mod, tvm_target(machine), tir_pipeline=lowering.PIPELINE)
    if dump.wanted:
        dump.write("assembly", executable.mod.inspect_source("s"), "s")
    link_library(executable, machine, folder / LIBRARY, objects)
