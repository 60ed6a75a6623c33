"""A network's kernels, and its whole program, to be called with guarded buffers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tvm
from guards.child import LIBRARY, Parameter
from guards.kernels import Kernel

from effgen.compiler.dump import Dump
from effgen.compiler.entry import module_from_program
from effgen.compiler.importer import relax_from_graph
from effgen.compiler.link import link_program
from effgen.compiler.pipeline import ScheduledModule, schedule_module
from effgen.compiler.program import IMAGE, LOGITS, WEIGHTS, WORKSPACE, Program, Step
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.kernels import lowering
from effgen.machines.machine import Cpu
from effgen.network import NetworkRequest
from effgen.network.model import model_of, resolve
from effgen.records.choice import KernelChoices
from effgen.runtime.arrays import ALIGNMENT
from effgen.runtime.manifest import RUN_ON

_ROLES = {IMAGE: "input", LOGITS: "output", WEIGHTS: "input", WORKSPACE: "scratch"}


def scheduled_network(family: str, phi: str, machine: Cpu, database: Path) -> ScheduledModule:
    """The network as `effgen compile` schedules it; the caller has entered the TVM target."""
    model = model_of(resolve(NetworkRequest(spec=family, phi=phi)), None, 0, lambda phase: None)
    graph, weights = fold_batchnorm(model.graph, model.weights)
    chosen = KernelChoices(machine, database)
    return schedule_module(relax_from_graph(graph, weights, machine, chosen.kernel), machine, chosen, Dump(None))


def kernels_of(scheduled: ScheduledModule) -> Iterator[tuple[str, Kernel]]:
    """Each kernel of the network once, and a hash of what it is: networks share many."""
    steps = {step.kernel: step for step in scheduled.program.steps}
    for name, step in steps.items():
        function = scheduled.mod[name]
        text = hashlib.sha256(function.script().replace(name, "kernel").encode()).hexdigest()
        yield text, Kernel(f"{name}_{text[:8]}", function, _indices(function, step, scheduled.program))


def _indices(function: tvm.tirx.PrimFunc, step: Step, program: Program) -> dict[int, np.ndarray]:
    """The constants by which it takes elements: any other numbers would lead it astray."""
    found = {}
    for index, (buffer, place) in enumerate(zip(function.params, step.places, strict=True)):
        if str(buffer.dtype) != "float32":
            assert place.array == WEIGHTS, f"{step.kernel}: {buffer.dtype} that is no constant"
            size = int(np.prod([int(extent) for extent in buffer.shape])) * np.dtype(str(buffer.dtype)).itemsize
            found[index] = program.weights[place.offset : place.offset + size]
    return found


def build_program(scheduled: ScheduledModule, machine: Cpu, folder: Path) -> dict[str, list[Parameter]]:
    """Write the network's own library into `folder`, and its weights; the parameters of `run_on` behind its
    number of threads, aligned as in a bundle. The caller has entered the TVM target."""
    program = scheduled.program
    module = module_from_program(program, scheduled.mod)
    executable = tvm.compile(module, lowering.tvm_target(machine), tir_pipeline=lowering.PIPELINE)
    link_program(executable, machine, folder / LIBRARY, scratch=Path(__file__).with_name("workspaces.c"))
    program.weights.tofile(folder / WEIGHTS)
    return {
        RUN_ON: [
            Parameter(
                array,
                size,
                "float32",
                alignment=4 if array == IMAGE else ALIGNMENT,
                role=_ROLES[array],  # type: ignore[arg-type]
                values=WEIGHTS if array == WEIGHTS else None,
            )
            for array, size in program.sizes.items()
        ]
    }
