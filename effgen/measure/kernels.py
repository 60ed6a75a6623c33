"""Candidates on this machine, inside the worker: built, fed, checked against the reference, ready to be timed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as tir

from effgen.kernels.workload import Workload
from effgen.machines.identity import device_name
from effgen.machines.machine import Cpu
from effgen.measure.carried.timing import BURST_S, timed
from effgen.measure.case import KernelCase, compile_kernels
from effgen.measure.protocol import Connect, Setup, provider_from_name
from effgen.records.record import DecisionKey, decision_key

if TYPE_CHECKING:
    from effgen.measure.carried.timing import Side

#: Built kernels that stay loaded: the incumbent and a few before it.
KEPT_KERNELS = 6

#: Bytes of inputs, outputs and references that stay loaded, unless one workload alone needs more.
_KEPT_BYTES = 1 << 30

_CACHE_LINE = 64


_K = TypeVar("_K")


class KeptKernels(Generic[_K]):
    """The candidates of one workload that were used last, by their decisions."""

    def __init__(self, build: Callable[[Mapping[str, int]], _K]) -> None:
        self._build = build
        self._kernels: OrderedDict[DecisionKey, _K] = OrderedDict()

    def kernel(self, decisions: Mapping[str, int]) -> _K:
        """The candidate with these decisions, built unless it still is; raises whatever building raises."""
        key = decision_key(decisions)
        if key not in self._kernels:
            self._kernels[key] = self._build(decisions)
        self._kernels.move_to_end(key)
        while len(self._kernels) > KEPT_KERNELS:
            self._kernels.popitem(last=False)
        return self._kernels[key]

    def clear(self) -> None:
        """Let go of them all."""
        self._kernels.clear()


@dataclass(frozen=True)
class Kernel:
    """A built candidate; the library behind the function lives as long as this does."""

    library: Any
    function: Callable[..., Any]


class LocalBench:
    """One workload's case in this process's memory, and its built kernels."""

    def __init__(self, case: KernelCase, between: Callable[[], object]) -> None:
        self.case = case
        self._between = between
        # TVM's own memory: aligned as its kernels expect.
        self._inputs = [tvm.runtime.tensor(array) for array in self.case.inputs.values()]
        self._outputs = [tvm.runtime.empty(shape, "float32") for shape in case.workload.out_shapes]
        self._found: list[NDArray[Any]] = [np.from_dlpack(output) for output in self._outputs]
        self._kernels = KeptKernels(self._built)

    def kernel(self, decisions: Mapping[str, int]) -> Kernel:
        """The candidate with these decisions, built unless it still is; raises whatever building raises."""
        return self._kernels.kernel(decisions)

    def _built(self, decisions: Mapping[str, int]) -> Kernel:
        library = self.case.compile(decisions).mod
        return Kernel(library, library[self.case.workload.name])

    def side(self, kernel: Kernel) -> Side:
        """The kernel to be timed, with cold caches."""
        function, arguments = kernel.function, [*self._inputs, *self._outputs]
        return timed(lambda: function(*arguments), self._between)

    def error_after(self, kernel: Kernel) -> float:
        """Relative L2 error of a call, the worst of the outputs; they are NaN before it, lest one be left out."""
        for found in self._found:
            found.fill(np.nan)
        kernel.function(*self._inputs, *self._outputs)
        return self.case.error(self._found)


class HasCase(Protocol):
    """What `Benches` keeps."""

    case: KernelCase


_B = TypeVar("_B", bound=HasCase)


class Benches(Generic[_B]):
    """The benches last used, as many as fit into memory."""

    def __init__(self, make: Callable[[Workload], _B]) -> None:
        self._make = make
        self._benches: OrderedDict[Workload, _B] = OrderedDict()

    def bench(self, workload: Workload) -> _B:
        """The workload's bench, made unless it still is there."""
        if workload not in self._benches:
            self._benches[workload] = self._make(workload)
        self._benches.move_to_end(workload)
        while len(self._benches) > 1 and sum(bench.case.bytes for bench in self._benches.values()) > _KEPT_BYTES:
            self._benches.popitem(last=False)
        return self._benches[workload]

    def __iter__(self) -> Iterator[_B]:
        return iter(self._benches.values())


class Here:
    """This machine as the place of measuring."""

    burst_s: float = BURST_S

    def __init__(self, setup: Setup) -> None:
        provider = provider_from_name(setup.provider)
        between = CacheFlush(setup.machine) if setup.cold else lambda: None
        self._benches = Benches(lambda workload: LocalBench(KernelCase(workload, setup.machine, provider), between))
        self.device = device_name()

    def connect(self, request: Connect) -> None:
        """Nothing: this machine is always there."""

    def prepare(self, workload: Workload) -> None:
        """Make the inputs and the reference."""
        self._benches.bench(workload)

    def bench(self, workload: Workload) -> LocalBench:
        """What measures this workload's candidates."""
        return self._benches.bench(workload)

    def lost(self) -> bool:
        """Never."""
        return False


class CacheFlush:
    """Called, it fills every core's first and second level cache with something else, one line at a time.

    All cores read the same memory, twice their second level, which costs the shared cache only that.
    """

    def __init__(self, machine: Cpu) -> None:
        function, shapes = flush_function(machine)
        self._arrays = [tvm.runtime.tensor(np.zeros(shape, np.float32)) for shape in shapes]
        self._library = compile_kernels({"flush": function}, tvm.target.Target(machine.llvm)).mod
        self._function = self._library["flush"]

    def __call__(self) -> None:
        self._function(*self._arrays)


def flush_function(machine: Cpu) -> tuple[Any, tuple[tuple[int, ...], ...]]:
    """The PrimFunc that does so, and the shapes of its arguments, float32 of whatever value.

    sums[core, lane] = the sum of every such lane of all cache lines, on every core.
    """
    step = _CACHE_LINE // 4
    cores, floats = machine.cores, 2 * machine.l2_bytes // 4
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name("flush")
        tir.func_attr({"global_symbol": "flush", "tirx.noalias": True, "tirx.is_scheduled": True})
        memory = tir.arg("memory", tir.buffer((floats,), "float32", layout=None))
        sums = tir.arg("sums", tir.buffer((cores, step), "float32", layout=None))
        with tir.parallel(0, cores) as core, tir.serial(0, floats // step) as line, tir.vectorized(0, step) as lane:
            tir.buffer_store(sums, sums[core, lane] + memory[line * step + lane], [core, lane])
    return builder.get(), ((floats,), (cores, step))
