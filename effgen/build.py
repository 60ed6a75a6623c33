"""Scheduled module -> shared library and weights, by TVM's code generator and the system's C++ linker."""

from __future__ import annotations

from pathlib import Path

import tvm

from effgen.dump import Dump
from effgen.kernels import lowering
from effgen.link import link_library
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
    linker(machine)  # before the long part
    executable = tvm.compile(scheduled.mod, tvm_target(machine), tir_pipeline=lowering.PIPELINE)
    if dump.wanted:
        dump.write("assembly", executable.mod.inspect_source("s"), "s")
    link_library(executable, machine, folder / LIBRARY)
    scheduled.program.weights.astype("<f4", copy=False).tofile(folder / WEIGHTS)
