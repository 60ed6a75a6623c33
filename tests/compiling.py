"""Graphs of a few nodes, scheduled for this machine: what tests of the compiler and of its forecasts share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from effgen.graph import Graph, GraphBuilder, Value, Weights
from effgen.machines.target import load_target
from effgen.runtime.library import prepare_tvm

if TYPE_CHECKING:
    from effgen.compiler.pipeline import ScheduledModule
    from effgen.compiler.program import Program


def random_weights(graph: Graph) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(len(graph.nodes))
    arrays = {}
    for name, parameter in graph.parameters.items():
        array = generator.standard_normal(parameter.shape, dtype=np.float32)
        arrays[name] = np.abs(array) + np.float32(0.5) if parameter.role == "norm_var" else array
    return arrays


def scheduled_module(graph: Graph, weights: Weights) -> ScheduledModule:
    prepare_tvm()
    from effgen.compiler.dump import Dump
    from effgen.compiler.importer import relax_from_graph
    from effgen.compiler.pipeline import schedule_module
    from effgen.kernels.lowering import tvm_target
    from effgen.records.choice import KernelChoices

    machine = load_target("cpu")
    with tvm_target(machine):
        chosen = KernelChoices(machine)
        imported = relax_from_graph(graph, weights, machine, chosen.kernel)
        return schedule_module(imported, machine, chosen, Dump(None))


def run_compiled(graph: Graph, weights: Weights, image: np.ndarray, folder: Path) -> np.ndarray:
    """What the machine code that would be shipped computes, on one thread."""
    scheduled = scheduled_module(graph, weights)
    from effgen.compiler.backend import backend_of
    from effgen.compiler.dump import Dump
    from effgen.kernels.lowering import tvm_target
    from effgen.runtime import LoadedModel, Manifest

    with tvm_target(load_target("cpu")):
        backend_of(load_target("cpu")).write(scheduled, folder, Dump(None))
    program = scheduled.program
    manifest = Manifest(
        name="test", network={}, target={}, device={"kind": "cpu"}, dtype="float32", versions={}, threads=1, files={},
        kernels=[], parameters=0, macs=0, tolerance={}, input={"shape": graph.input.shape},
        outputs=[{"name": graph.output, "shape": graph.values[graph.output].shape}],
        steps=[step.kernel for step in program.steps], workspace_bytes=program.workspace_bytes,
    )  # fmt: skip
    return LoadedModel(folder, manifest, threads=1)(image)


def program_of(graph: Graph, weights: Weights) -> Program:
    return scheduled_module(graph, weights).program


def conv(b: GraphBuilder, x: str, out: int, name: str, kernel: int = 1, stride: int = 1, group: int = 1) -> str:
    weight = b.parameter(f"{name}.weight", (out, b.shape(x)[1] // group, kernel, kernel), "kernel")
    pads = (kernel // 2,) * 4
    return b.add("Conv", [x, weight], name, group=group, pads=pads, strides=(stride, stride))


def builder(batch: int = 1, channels: int = 8, size: int = 9) -> GraphBuilder:
    return GraphBuilder("test", Value("x", (batch, channels, size, size)))


def cut(b: GraphBuilder, x: str, name: str, start: int, end: int) -> str:
    """Some channels."""
    return b.add("Slice", [x], name, axes=(1,), starts=(start,), ends=(end,), steps=(1,))
