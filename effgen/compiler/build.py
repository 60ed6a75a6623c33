"""Scheduled module -> the files of a bundle that run: a shared library by TVM's code generator and the system's C++
linker, or machine code for GPUs; and the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, assert_never

import tvm
from tvm.target import codegen

from effgen.compiler.cuda_build import launches_of, write_kernels
from effgen.compiler.dump import Dump
from effgen.compiler.entry import module_from_program
from effgen.compiler.link import link_library
from effgen.compiler.pipeline import ScheduledModule
from effgen.kernels.lowering import PIPELINE, tvm_target
from effgen.machines.programs import tool_version
from effgen.machines.target import Cpu, Gpu, Machine
from effgen.machines.toolchain import cuda_program, linker
from effgen.runtime.manifest import KERNELS, LIBRARY, WEIGHTS


@dataclass(frozen=True)
class Built:
    """What a manifest says of code that was written: the processor, as `device`, with its launches if it is a GPU; and
    the `compiler` with its version."""

    device: dict[str, Any]
    compiler: str


class Backend(Protocol):
    """How a scheduled module becomes machine code; `phase` is what that is called while it runs."""

    phase: str

    def write(self, scheduled: ScheduledModule, folder: Path, dump: Dump, objects: Path | None) -> Built:
        """Write the machine code of the bundle `folder`; the caller has entered the TVM target."""


def backend_of(machine: Machine) -> Backend:
    """What makes machine code for `machine`."""
    match machine:
        case Cpu():
            return _Llvm(machine)
        case Gpu():
            return _Nvcc(machine)
        case _:
            assert_never(machine)


def write_code(
    scheduled: ScheduledModule, backend: Backend, folder: Path, dump: Dump, objects: Path | None = None
) -> Built:
    """Write the machine code and the weights of the bundle `folder`, and the object files of a CPU's kernels into the
    folder `objects`. The caller has entered the TVM target.

    Raises BuildError where a linker or nvcc is missing or fails.
    """
    scheduled.program.weights.tofile(folder / WEIGHTS)
    return backend.write(scheduled, folder, dump, objects)


class _Llvm:
    """A shared library, which holds all of the program."""

    phase = "generate code and link"

    def __init__(self, machine: Cpu) -> None:
        self._machine = machine

    def write(self, scheduled: ScheduledModule, folder: Path, dump: Dump, objects: Path | None) -> Built:
        """The kernels' assembly goes to `dump`, their object files to the folder `objects`.

        Raises BuildError where there is no linker or it fails.
        """
        machine = self._machine
        compiler = linker(machine)  # before the long part
        mod = module_from_program(scheduled.program, scheduled.mod)
        dump.write_module("tir_entry", mod)
        executable = tvm.compile(mod, tvm_target(machine), tir_pipeline=PIPELINE)
        if dump.wanted:
            dump.write("assembly", executable.mod.inspect_source("s"), "s")
        link_library(executable, machine, folder / LIBRARY, objects)
        return Built({"kind": "cpu"}, f"LLVM {codegen.llvm_version_major()}, linked by {tool_version(compiler)}")


class _Nvcc:
    """The kernels as machine code for GPUs, and the program as a list of launches."""

    phase = "generate code, compile it with nvcc"

    def __init__(self, machine: Gpu) -> None:
        self._machine = machine

    def write(self, scheduled: ScheduledModule, folder: Path, dump: Dump, objects: Path | None) -> Built:
        """There are no object files. Raises BuildError where nvcc is missing or fails."""
        names = dict.fromkeys(step.kernel for step in scheduled.program.steps)
        kernels = {name: scheduled.mod[name] for name in names}
        source = write_kernels(kernels, self._machine, folder / KERNELS, dump)
        launches = launches_of(scheduled.program, source)
        device = {"kind": "cuda", "archs": list(self._machine.archs), "launches": launches}
        return Built(device, tool_version(cuda_program("nvcc")))
