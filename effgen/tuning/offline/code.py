"""Candidates as code in a folder: a shared library for a CPU, machine code and launches for a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, assert_never

import tvm
from tvm.tirx import PrimFunc

from effgen.compiler.cuda_build import compile_fatbin, cuda_source
from effgen.compiler.link import link_library
from effgen.deploy.native import runtime_libraries
from effgen.kernels.lowering import tvm_target
from effgen.machines.machine import Cpu, Gpu, Machine
from effgen.measure.case import compile_kernels
from effgen.measure.kernels import flush_function

#: The second-level cache is filled so many times over.
_FLUSHES = 2


class Code(Protocol):
    """How kernels are compiled for a machine; `suffix` is that of the file which holds them."""

    suffix: str

    def compile(self, functions: Mapping[str, PrimFunc]) -> Any:
        """Scheduled functions compiled together; raises whatever compiling raises."""

    def write(self, compiled: Any, path: Path) -> None:
        """Write what `compile` gave; raises BuildError."""

    def stated(self, compiled: Any, name: str) -> dict[str, Any]:
        """What a plan says of one of the functions beside its name."""

    def device(self) -> dict[str, Any]:
        """What a plan says of the processor."""

    def runtime_libraries(self) -> tuple[Path, ...]:
        """The libraries that run the kernels there. Raises BuildError where one is missing."""

    def write_flush(self, path: Path) -> dict[str, Any]:
        """What makes caches cold between calls, for the plan; it may need a library, written to `path`."""


class CpuCode:
    """Shared libraries, by TVM and the target's linker."""

    suffix = ".so"

    def __init__(self, machine: Cpu) -> None:
        self._machine, self._target = machine, tvm.target.Target(machine.llvm)

    def compile(self, functions: Mapping[str, PrimFunc]) -> Any:
        return compile_kernels(functions, self._target)

    def write(self, compiled: Any, path: Path) -> None:
        link_library(compiled, self._machine, path)

    def stated(self, compiled: Any, name: str) -> dict[str, Any]:
        return {}

    def device(self) -> dict[str, Any]:
        return {"kind": "cpu"}

    def runtime_libraries(self) -> tuple[Path, ...]:
        return runtime_libraries(self._machine.architecture)

    def write_flush(self, path: Path) -> dict[str, Any]:
        function, shapes = flush_function(self._machine)
        self.write(self.compile({"flush": function}), path)
        return {"function": "flush", "arrays": [list(shape) for shape in shapes]}


class CudaCode:
    """Machine code for GPUs, by TVM and nvcc, and the launches of each function."""

    suffix = ".fatbin"

    def __init__(self, machine: Gpu) -> None:
        self._machine = machine

    def compile(self, functions: Mapping[str, PrimFunc]) -> Any:
        with tvm_target(self._machine):
            source = cuda_source(functions, self._machine)
        return source, compile_fatbin(source.text, self._machine)

    def write(self, compiled: Any, path: Path) -> None:
        path.write_bytes(compiled[1])

    def stated(self, compiled: Any, name: str) -> dict[str, Any]:
        kernels = [asdict(kernel) for kernel in compiled[0].kernels[name]]
        return {"launches": [{"kernel": kernel.pop("symbol"), **kernel} for kernel in kernels]}

    def device(self) -> dict[str, Any]:
        return {"kind": "cuda", "arch": self._machine.arch}

    def runtime_libraries(self) -> tuple[Path, ...]:
        """None: the GPU's driver does."""
        return ()

    def write_flush(self, path: Path) -> dict[str, Any]:
        return {"bytes": _FLUSHES * self._machine.l2}


def code_of(machine: Machine) -> Code:
    """How kernels are compiled for `machine`."""
    match machine:
        case Cpu():
            return CpuCode(machine)
        case Gpu():
            return CudaCode(machine)
        case _:
            assert_never(machine)
