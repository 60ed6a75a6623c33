"""Which operators of a graph are left to TVM, as workloads: what `effgen tune` lists beside the kernels."""

from __future__ import annotations

from collections import Counter

import tvm
from tvm import relax

from effgen.compiler.importer import ENTRY, relax_from_graph
from effgen.compiler.legalize import lowered_by_us
from effgen.compiler.pipeline import legalize_rest, rest_of
from effgen.graph import Graph, Weights
from effgen.kernels.lowering import tvm_target
from effgen.kernels.operator import operator_of
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine
from effgen.schedules import kernel_from_workload


def operators_of(graph: Graph, weights: Weights, machine: Machine) -> Counter[Workload]:
    """How often one run calls each function that no rule knows, of those that can be judged; batch norms are folded.

    Weights count: what is one number is part of a function.
    """
    with tvm_target(machine):
        imported = relax_from_graph(graph, weights, machine, lambda workload: kernel_from_workload(workload, machine))
        mod = legalize_rest(imported.mod, lowered_by_us(machine))
    calls = _calls(mod[ENTRY])
    found: Counter[Workload] = Counter()
    for var, func in rest_of(mod):
        operator = operator_of(func, var.name_hint)
        if operator is not None:
            found[operator] += calls[var.name_hint]
    return found


def _calls(main: relax.Function) -> Counter[str]:
    bound = (binding.value for block in main.body.blocks for binding in block.bindings)
    to_tir = (value for value in bound if isinstance(value, relax.Call) and value.op == tvm.ir.Op.get("relax.call_tir"))
    return Counter(call.args[0].name_hint for call in to_tir)
