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
    mod = _schedule_rest(mod, chosen)
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


def _schedule_rest(mod: tvm.IRModule, chosen: KernelChoices) -> tvm.IRModule:
    """Schedule every PrimFunc that is not finished."""
    for var, func in rest_of(mod):
        mod[var] = chosen.operator(var.name_hint, func)
    return mod


def rest_of(mod: tvm.IRModule) -> list[tuple[tvm.ir.GlobalVar, tvm.tirx.PrimFunc]]:
    """The functions that are not finished: those of operators that no kernel of ours computes."""
    return [
        (var, func)
        for var, func in mod.functions_items()
        if isinstance(func, tvm.tirx.PrimFunc) and not func.attrs.get("tirx.is_scheduled", False)
    ]


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
        found = chosen.operators.get(name)
        source, decisions = ("fallback", {}) if found is None else (found.source, dict(found.decisions))
        return ScheduledKernel(name, "operator", source, calls, decisions, 0, 0)
    choice = chosen.choice(workload)
    return ScheduledKernel(
        name, workload.family, choice.source, calls, dict(choice.decisions), workload.macs, workload.bytes
    )
