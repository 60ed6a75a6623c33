"""The numbered phases between an imported module and code generation, each with a text dump on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import tvm
from tvm import relax

from effgen.dump import Dump
from effgen.importer import ImportedModule
from effgen.kernels.workload import Workload
from effgen.schedules import schedule_primfunc
from effgen.target import Machine


@dataclass(frozen=True)
class ScheduledKernel:
    """A kernel of the finished module: its printed name, family, and where its schedule came from."""

    name: str
    family: str
    source: str
    calls: int


@dataclass(frozen=True)
class ScheduledModule:
    """What code generation takes: every PrimFunc scheduled, memory planned, `main` ready for the VM."""

    mod: tvm.IRModule
    kernels: tuple[ScheduledKernel, ...]
    workspace_bytes: int


def schedule_module(imported: ImportedModule, machine: Machine, dump: Dump) -> ScheduledModule:
    """Run every phase; the caller has entered the TVM target."""
    mod = imported.mod
    dump.write_module("relax_imported", mod)
    mod = _legalize_rest(mod, imported.workloads)
    dump.write_module("relax_legalized", mod)
    mod, sources = _schedule(mod, imported.workloads, machine)
    dump.write_module("tir_scheduled", mod)
    mod = _plan_memory(mod)
    dump.write_module("relax_planned", mod)
    kernels = tuple(
        ScheduledKernel(name, _family(name, imported.workloads), sources[name], calls)
        for name, calls in sorted(_count_calls(mod).items())
    )
    return ScheduledModule(_finalize(mod), kernels, _workspace_bytes(mod))


def _legalize_rest(mod: tvm.IRModule, ours: Mapping[str, Workload]) -> tvm.IRModule:
    """Lower the operators that no kernel of ours computes, and fuse them with each other."""
    for var, func in mod.functions_items():
        if var.name_hint in ours:
            # Opaque to FuseOps: a fused copy of our kernel would not be found by its rule.
            mod[var] = func.with_attr("op_pattern", 8)
    return tvm.transform.Sequential(
        [
            relax.transform.LegalizeOps(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
        ]
    )(mod)


def _schedule(
    mod: tvm.IRModule, workloads: Mapping[str, Workload], machine: Machine
) -> tuple[tvm.IRModule, dict[str, str]]:
    """Every PrimFunc scheduled; returns where each schedule came from, by kernel name."""
    sources: dict[str, str] = {}
    for var, func in mod.functions_items():
        if isinstance(func, tvm.tirx.PrimFunc):
            name = var.name_hint
            scheduled, sources[name] = schedule_primfunc(func, workloads.get(name), machine)
            mod[var] = scheduled
    return mod, sources


def _plan_memory(mod: tvm.IRModule) -> tvm.IRModule:
    return tvm.transform.Sequential(
        [
            relax.transform.RewriteDataflowReshape(),
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            relax.transform.StaticPlanBlockMemory(),
        ]
    )(mod)


def _finalize(mod: tvm.IRModule) -> tvm.IRModule:
    return tvm.transform.Sequential(
        [
            relax.transform.LowerAllocTensor(),
            relax.transform.KillAfterLastUse(),
            relax.transform.LowerRuntimeBuiltin(),
            relax.transform.ComputePrimValue(),
            relax.transform.VMShapeLower(),
            relax.transform.AttachGlobalSymbol(),
        ]
    )(mod)


def _calls(mod: tvm.IRModule) -> list[relax.Call]:
    calls: list[relax.Call] = []
    relax.analysis.post_order_visit(
        mod["main"], lambda expr: calls.append(expr) if isinstance(expr, relax.Call) else None
    )
    return calls


def _count_calls(mod: tvm.IRModule) -> dict[str, int]:
    """How often `main` of a planned module calls each PrimFunc; reshapes are views by now and no calls."""
    return Counter(call.op.name_hint for call in _calls(mod) if isinstance(call.op, tvm.ir.GlobalVar))


def _workspace_bytes(mod: tvm.IRModule) -> int:
    """Bytes of the storages that memory planning gave `main` for its activations."""
    return sum(
        int(call.args[0].values[0])
        for call in _calls(mod)
        if getattr(call.op, "name", "") == "relax.memory.alloc_storage"
    )


def _family(name: str, workloads: Mapping[str, Workload]) -> str:
    return workloads[name].family if name in workloads else "operator"
