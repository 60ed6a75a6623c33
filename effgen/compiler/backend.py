"""Who makes machine code for a kind of machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, assert_never

from effgen.compiler.build import write_launches, write_library, write_weights
from effgen.compiler.dump import Dump
from effgen.compiler.pipeline import ScheduledModule
from effgen.machines.machine import Cpu, Gpu, Machine


@dataclass(frozen=True)
class Built:
    """What a manifest says of code that was written: the processor, as `device`, with its launches if it is a GPU; and
    the `compiler` with its version."""

    device: dict[str, Any]
    compiler: str


class Backend(Protocol):
    """`phase` is what making machine code is called while it runs."""

    phase: str

    def write(self, scheduled: ScheduledModule, folder: Path, dump: Dump, objects: Path | None = None) -> Built:
        """Write the machine code and the weights of the bundle `folder`, and the object files of a CPU's kernels into
        the folder `objects`. The caller has entered the TVM target.

        Raises BuildError where a linker or nvcc is missing or fails.
        """


def backend_of(machine: Machine) -> Backend:
    """The one for `machine`."""
    match machine:
        case Cpu():
            return _Llvm(machine)
        case Gpu():
            return _Nvcc(machine)
        case _:
            assert_never(machine)


class _Llvm:
    """A shared library holds all of the program."""

    phase = "generate code and link"

    def __init__(self, machine: Cpu) -> None:
        self._machine = machine

    def write(self, scheduled: ScheduledModule, folder: Path, dump: Dump, objects: Path | None = None) -> Built:
        write_weights(scheduled, folder)
        return Built({"kind": "cpu"}, write_library(scheduled, self._machine, folder, dump, objects))


class _Nvcc:
    """The kernels are machine code for GPUs, the program is a list of launches, and there are no object files."""

    phase = "generate code, compile it with nvcc"

    def __init__(self, machine: Gpu) -> None:
        self._machine = machine

    def write(self, scheduled: ScheduledModule, folder: Path, dump: Dump, objects: Path | None = None) -> Built:
        write_weights(scheduled, folder)
        launches, compiler = write_launches(scheduled, self._machine, folder, dump)
        return Built({"kind": "cuda", "archs": list(self._machine.archs), "launches": launches}, compiler)
