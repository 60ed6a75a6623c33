"""The numbered phases between an imported module and code generation, each with a text dump on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import tvm
from tvm import relax

from effgen.compiler.dump import Dump
from effgen.compiler.importer import ImportedModule
from effgen.compiler.legalize import Lower, lowered_by_us
from effgen.compiler.program import Program, program_from_relax
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine
from effgen.records.choice import KernelChoices
from effgen.schedules import schedule_operator


@dataclass(frozen=True)
class ScheduledKernel:
    """A kernel of the finished module: its printed name, family, and where its schedule came from (`record:<where>`,
    `rule:<name>` or `fallback`); the decisions it was built with; multiply-adds and bytes of a call (0: not known)."""

    name: str
    family: str
    source: str
    calls: int
    decisions: dict[str, int]
    macs: int
    bytes: int


@dataclass(frozen=True)
class ScheduledModule:
    """What code generation takes: the program, and the module that holds its kernels, all scheduled."""

    mod: tvm.IRModule
    program: Program
    kernels: tuple[ScheduledKernel, ...]


def schedule_module(imported: ImportedModule, machine: Machine, chosen: KernelChoices, dump: Dump) -> ScheduledModule:
    """Run every phase; the caller has entered the TVM target. `chosen` made the kernels of `imported`."""
    mod = imported.mod
    dump.write_module("relax_imported", mod)
    mod = legalize_rest(mod, lowered_by_us(machine))
    dump.write_module("relax_legalized", mod)
    mod = _schedule_rest(mod, machine)
    dump.write_module("tir_scheduled", mod)
    mod = plan_memory(mod)
    dump.write_module("relax_planned", mod)
    program = program_from_relax(mod)
    kernels = tuple(
        _kernel_facts(name, calls, imported.workloads.get(name), chosen)
        for name, calls in sorted(program.calls.items())
    )
    return ScheduledModule(mod, program, kernels)


def legalize_rest(mod: tvm.IRModule, ours: Mapping[str, Lower] = MappingProxyType({})) -> tvm.IRModule:
    """Lower what no kernel of ours computes, the operators of `ours` as it says, and fuse those with each other."""
    return tvm.transform.Sequential(
        [
            relax.transform.LegalizeOps(dict(ours)),
            relax.transform.DeadCodeElimination(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
        ]
    )(mod)


def _schedule_rest(mod: tvm.IRModule, machine: Machine) -> tvm.IRModule:
    """Schedule every PrimFunc that is not finished."""
    for var, func in mod.functions_items():
        if isinstance(func, tvm.tirx.PrimFunc) and not func.attrs.get("tirx.is_scheduled", False):
            mod[var] = schedule_operator(func, machine)
    return mod


def plan_memory(mod: tvm.IRModule) -> tvm.IRModule:
    return tvm.transform.Sequential(
        [
            relax.transform.RewriteDataflowReshape(),
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            relax.transform.StaticPlanBlockMemory(),
        ]
    )(mod)


def _kernel_facts(name: str, calls: int, workload: Workload | None, chosen: KernelChoices) -> ScheduledKernel:
    if workload is None:
        return ScheduledKernel(name, "operator", "fallback", calls, {}, 0, 0)
    choice = chosen.choice(workload)
    return ScheduledKernel(
        name, workload.family, choice.source, calls, dict(choice.decisions), workload.macs, workload.bytes
    )
