"""One workload to measure: its space, the inputs of every candidate and what they must make of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from effgen.kernels import lowering
from effgen.kernels.reference import random_inputs
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu
from effgen.measure.protocol import SpaceProvider
from effgen.schedules import kernel_from_workload

#: Relative L2 error that a kernel may have against float64.
TOLERANCE = 1e-5


class KernelCase:
    """`inputs` float32 by name, in the order of the kernel's arguments, `expected` float64."""

    def __init__(self, workload: Workload, machine: Cpu, provider: SpaceProvider) -> None:
        self.space = provider(workload, machine)
        self.workload = workload
        self._machine = machine
        self._target = tvm.target.Target(machine.llvm)
        self.inputs = random_inputs(workload, machine, np.random.default_rng(zlib.crc32(workload.name.encode())))
        self.expected = workload.reference(self.inputs)

    @property
    def bytes(self) -> int:
        """What inputs, float32 outputs and references take."""
        inputs, expected = (sum(array.nbytes for array in arrays) for arrays in (self.inputs.values(), self.expected))
        return inputs + expected + expected // 2

    def compile(self, decisions: Mapping[str, int]) -> Any:
        """What `tvm.compile` makes of the candidate; raises whatever building raises.

        A kernel that the provider has no space for is built by its rule, whatever the decisions.
        """
        if self.space is None:
            kernel = kernel_from_workload(self.workload, self._machine)
        else:
            kernel = self.space.kernel(dict(decisions))
        return compile_kernels({self.workload.name: kernel}, self._target)

    def error(self, found: Sequence[NDArray[np.float32]]) -> float:
        """Relative L2 error of outputs, the worst one's; NaN where they hold any."""
        errors = [_relative_l2(mine, right) for mine, right in zip(found, self.expected, strict=True)]
        return float(np.max(errors))  # unlike Python's, numpy's maximum of a NaN is NaN


def compile_kernels(functions: Mapping[str, Any], target: Any) -> Any:
    """What `tvm.compile` makes of scheduled functions, by the names that they shall have."""
    named = {name: function.with_attr("global_symbol", name) for name, function in functions.items()}
    return tvm.compile(tvm.IRModule(named), target, tir_pipeline=lowering.PIPELINE)


def _relative_l2(found: NDArray[np.float32], right: NDArray[np.float64]) -> float:
    scale = float(np.linalg.norm(right.ravel()))
    distance = float(np.linalg.norm((found - right).ravel()))
    return distance / scale if scale else distance
