"""Candidates as running code, inside the worker: built, fed, checked against the reference, ready to be timed."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import lowering
from effgen.kernels.reference import random_inputs, reference_outputs
from effgen.kernels.workload import Workload
from effgen.measure.protocol import SpaceProvider
from effgen.target import Machine

#: Relative L2 error that a kernel may have against float64.
TOLERANCE = 1e-5

#: Built kernels that stay loaded: the incumbent and a few before it.
_KEPT_KERNELS = 6

#: Bytes of inputs, outputs and references that stay loaded, unless one workload alone needs more.
_KEPT_BYTES = 1 << 30

_CACHE_LINE = 64

DecisionKey = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Kernel:
    """A built candidate; the library behind the function lives as long as this does."""

    library: Any
    function: Callable[..., Any]


class Bench:
    """One workload's space, inputs, expected outputs and built kernels."""

    def __init__(self, workload: Workload, machine: Machine, provider: SpaceProvider) -> None:
        space = provider(workload, machine)
        assert space is not None, f"{workload.name} has no space"
        self.space = space
        self.workload = workload
        self._target = tvm.target.Target(machine.llvm)
        inputs = random_inputs(workload, machine, np.random.default_rng(zlib.crc32(workload.name.encode())))
        self._expected = reference_outputs(workload, inputs, machine)
        # TVM's own memory: aligned as its kernels expect.
        self._inputs = [tvm.runtime.tensor(array) for array in inputs.values()]
        self._outputs = [tvm.runtime.empty(shape, "float32") for shape in workload.out_shapes]
        self._found: list[NDArray[Any]] = [np.from_dlpack(output) for output in self._outputs]
        self._kernels: OrderedDict[DecisionKey, Kernel] = OrderedDict()
        arrays: list[NDArray[Any]] = [*inputs.values(), *self._found, *self._expected]
        self.bytes = sum(array.nbytes for array in arrays)

    def kernel(self, decisions: Mapping[str, int]) -> Kernel:
        """The candidate with these decisions, built unless it still is; raises whatever building raises."""
        key = tuple(sorted(decisions.items()))
        if key not in self._kernels:
            module = tvm.IRModule({self.workload.name: self.space.build(dict(decisions))})
            library = tvm.compile(module, self._target, tir_pipeline=lowering.PIPELINE).mod
            self._kernels[key] = Kernel(library, library[self.workload.name])
        self._kernels.move_to_end(key)
        while len(self._kernels) > _KEPT_KERNELS:
            self._kernels.popitem(last=False)
        return self._kernels[key]

    def run(self, kernel: Kernel) -> Callable[[], object]:
        """A function of no arguments that calls the kernel once."""
        function, arguments = kernel.function, [*self._inputs, *self._outputs]
        return lambda: function(*arguments)

    def error_after(self, kernel: Kernel) -> float:
        """Relative L2 error of a call, the worst of the outputs; they are NaN before it, lest one be left out."""
        self._poison()
        self.run(kernel)()
        return self.error()

    def error(self) -> float:
        """Relative L2 error of what the outputs hold; NaN where they do."""
        errors = [_relative_l2(found, right) for found, right in zip(self._found, self._expected, strict=True)]
        return float(np.max(errors))  # unlike Python's, numpy's maximum of a NaN is NaN

    def _poison(self) -> None:
        for found in self._found:
            found.fill(np.nan)


class Benches:
    """The benches last used, as many as fit into memory."""

    def __init__(self, machine: Machine, provider: SpaceProvider) -> None:
        self._machine, self._provider = machine, provider
        self._benches: OrderedDict[Workload, Bench] = OrderedDict()

    def bench(self, workload: Workload) -> Bench:
        """The workload's bench, made unless it still is there."""
        if workload not in self._benches:
            self._benches[workload] = Bench(workload, self._machine, self._provider)
        self._benches.move_to_end(workload)
        while len(self._benches) > 1 and sum(bench.bytes for bench in self._benches.values()) > _KEPT_BYTES:
            self._benches.popitem(last=False)
        return self._benches[workload]


class CacheFlush:
    """Called, it fills every core's first and second level cache with something else, one line at a time.

    All cores read the same memory, twice their second level, which costs the shared cache only that.
    """

    def __init__(self, machine: Machine) -> None:
        floats = 2 * machine.l2_bytes // 4
        self._memory = tvm.runtime.tensor(np.zeros(floats, np.float32))
        self._sums = tvm.runtime.tensor(np.zeros((machine.cores, _CACHE_LINE // 4), np.float32))
        module = tvm.IRModule({"flush": _flush(machine.cores, floats)})
        self._library = tvm.compile(module, tvm.target.Target(machine.llvm)).mod
        self._function = self._library["flush"]

    def __call__(self) -> None:
        self._function(self._memory, self._sums)


def _flush(cores: int, floats: int) -> Any:
    """sums[core, lane] = the sum of every such lane of all cache lines, on every core."""
    step = _CACHE_LINE // 4
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name("flush")
        tir.func_attr({"global_symbol": "flush", "tirx.noalias": True, "tirx.is_scheduled": True})
        memory = tir.arg("memory", tir.buffer((floats,), "float32", layout=None))
        sums = tir.arg("sums", tir.buffer((cores, step), "float32", layout=None))
        with tir.parallel(0, cores) as core, tir.serial(0, floats // step) as line, tir.vectorized(0, step) as lane:
            tir.buffer_store(sums, sums[core, lane] + memory[line * step + lane], [core, lane])
    return builder.get()


def _relative_l2(found: NDArray[np.float32], right: NDArray[np.float64]) -> float:
    scale = float(np.linalg.norm(right.ravel()))
    distance = float(np.linalg.norm((found - right).ravel()))
    return distance / scale if scale else distance
