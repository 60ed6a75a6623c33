"""What the compiler says of the kernels that it scheduled, which `effgen bench --layers` takes its rates from."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import pytest
from compiling import builder, conv, random_weights

from effgen.judge.profile import KernelWork, work_from_kernels
from effgen.kernels.kinds import workload_from_name
from effgen.machines.target import load_target
from effgen.runtime.library import prepare_tvm

if TYPE_CHECKING:
    from pathlib import Path

    from effgen.compiler.pipeline import ScheduledModule


def scheduled(dtype: str, target: str) -> ScheduledModule:
    """The stem, a depthwise convolution and a pointwise one for a GPU: a kernel each, and nothing else."""
    prepare_tvm()
    from effgen.compiler.dump import Dump
    from effgen.compiler.importer import relax_from_graph
    from effgen.compiler.pipeline import schedule_module
    from effgen.kernels.lowering import tvm_target
    from effgen.records.choice import KernelChoices

    b = builder(channels=3, size=16)
    stem = b.add("Swish", [conv(b, "x", 16, "stem", kernel=3, stride=2)], "act")
    depthwise = conv(b, stem, 16, "depthwise", kernel=3, group=16)
    graph = b.finish(b.add("GlobalAveragePool", [conv(b, depthwise, 24, "pointwise")], "mean"))
    machine = load_target(target)
    with tvm_target(machine):
        chosen = KernelChoices(machine)
        imported = relax_from_graph(graph, random_weights(graph), machine, chosen.kernel, dtype)
        return schedule_module(imported, machine, chosen, Dump(None))


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2)])
def test_bytes_are_of_the_networks_type(dtype: str, size: int, tmp_path: Path) -> None:
    facts = [vars(kernel) | {"calls": 1} for kernel in scheduled(dtype, "cuda-sm90").kernels if kernel.macs]
    found = work_from_kernels([dict(kernel) for kernel in facts], tmp_path)
    image, stem, out = 3 * 16 * 16, 16 * 8 * 8, 24 * 8 * 8
    counted = {  # the image as the user has it and the biases are float32
        "conv2d": 4 * image + size * 16 * 27 + 4 * 16 + size * stem,
        "dwconv2d": 2 * size * stem + size * 16 * 9 + 4 * 16,
        "pointwise": size * (stem + out) + size * 16 * 24 + 4 * 24,
    }
    assert {name.split("_")[1]: work.bytes for name, work in found.items()} == counted
    assert all(isinstance(work, KernelWork) for work in found.values())


def test_kernels_are_what_their_names_say() -> None:
    kernels: list[Any] = [kernel for kernel in scheduled("float16", "cuda-sm90").kernels if kernel.family != "operator"]
    for kernel in kernels:
        workload = workload_from_name(kernel.name)
        assert workload is not None
        assert (workload.macs, workload.bytes, workload.family) == (kernel.macs, kernel.bytes, kernel.family)
        assert workload.bytes >= 2 * prod(workload.out_shape)
    assert len(kernels) > 3
