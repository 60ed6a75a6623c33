"""Candidates on a device behind TVM's RPC, inside the worker: built here, run, checked and timed there."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tvm
from numpy.typing import NDArray

from effgen.compiler.link import link_library
from effgen.files.temporary import temporary_folder
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu
from effgen.measure.case import KernelCase
from effgen.measure.kernels import Benches, KeptKernels
from effgen.measure.protocol import Connect, Remote, Setup, provider_from_name
from effgen.measure.session import device_of, has_function
from effgen.measure.tracker import session_with

if TYPE_CHECKING:
    from effgen.measure.carried.timing import Side

#: Seconds of one burst: a burst costs a round trip, which over a wireless network takes some milliseconds.
_BURST_S = 0.02

# TVM's way to have cold caches: before each call it pushes the lines of every argument but the first out of all caches
# of all cores, so weights come from memory and the image, as in a network, from the kernel before. Measuring here
# (`CacheFlush`) overwrites the first two levels instead: weights come from the third level, which boards do not have.
_FLUSH = "cache_flush_cpu_non_first_arg"

_BIG_CORES = 1  # TVM's mode of its thread pool: the fastest cores first


@dataclass(frozen=True)
class RemoteKernel:
    """A candidate loaded over there."""

    module: Any
    function: Any


class RemoteBench:
    """One workload's case, and its kernels and arrays on the device of the session that it is attached to."""

    def __init__(self, case: KernelCase, machine: Cpu) -> None:
        self.case = case
        self._machine = machine
        self._session: Any = None
        self._flush = ""
        self._arrays: list[Any] = []
        self._outputs: list[Any] = []
        self._nan: list[NDArray[np.float32]] = [
            np.full(shape, np.nan, np.float32) for shape in case.workload.out_shapes
        ]
        self._kernels = KeptKernels(lambda decisions: self._sent(case.compile(decisions)))
        self._names = (f"effgen_{number}.so" for number in itertools.count())

    def attach(self, session: Any, flush: str) -> None:
        """Send the inputs, unless they are there; `flush` names the remote function that makes caches cold."""
        if self._session is session:
            return
        self.detach()
        device = session.cpu(0)
        self._outputs = [tvm.runtime.tensor(array, device=device) for array in self._nan]
        inputs = [tvm.runtime.tensor(array, device=device) for array in self.case.inputs.values()]
        self._arrays = [*inputs, *self._outputs]
        self._session, self._flush = session, flush

    def detach(self) -> None:
        """Let go of everything over there."""
        self._kernels.clear()
        self._arrays, self._outputs, self._session = [], [], None

    def kernel(self, decisions: Mapping[str, int]) -> RemoteKernel:
        """The candidate with these decisions, built and sent unless it still is there; raises whatever that raises."""
        return self._kernels.kernel(decisions)

    def _sent(self, executable: Any) -> RemoteKernel:
        name = f"{id(self)}_{next(self._names)}"
        with temporary_folder("upload") as folder:
            path = folder / name
            link_library(executable, self._machine, path)
            self._session.upload(str(path), name)
        module = self._session.load_module(name)
        self._session.remove(name)  # what is loaded stays so
        return RemoteKernel(module, module[self.case.workload.name])

    def side(self, kernel: RemoteKernel) -> Side:
        """The kernel to be timed, with cold caches, by the device's own clock."""
        device, arrays = self._session.cpu(0), self._arrays

        def calls(count: int) -> list[float]:
            # One call more than asked for is made, and not counted, by TVM.
            evaluator = kernel.module.time_evaluator(
                self.case.workload.name, device, number=1, repeat=count, f_preproc=self._flush
            )
            return list(evaluator(*arrays).results)

        return calls

    def error_after(self, kernel: RemoteKernel) -> float:
        """Relative L2 error of a call, the worst of the outputs; they are NaN before it, lest one be left out."""
        for output, nan in zip(self._outputs, self._nan, strict=True):
            output.copyfrom(nan)
        kernel.function(*self._arrays)
        return self.case.error([output.numpy() for output in self._outputs])


class There:
    """A device behind a tracker as the place of measuring; which one, the tracker says."""

    burst_s: float = _BURST_S

    def __init__(self, setup: Setup, remote: Remote) -> None:
        provider = provider_from_name(setup.provider)
        machine = setup.machine
        self._remote, self._machine, self._cold = remote, machine, setup.cold
        self._benches = Benches(lambda workload: RemoteBench(KernelCase(workload, machine, provider), machine))
        self._session: Any = None
        self._ends = 0.0
        self._flush = ""
        self.device = remote.key

    def connect(self, request: Connect) -> None:
        """Have a session with enough time left; raises TuneError."""
        if self._session is not None and time.monotonic() + request.limit_s < self._ends:
            return
        self._leave()
        session = session_with(self._remote, request.wait_s, request.session_s)
        self._ends = time.monotonic() + request.session_s
        machine = self._machine
        self.device = device_of(
            session, self._remote.key, machine.name, machine.architecture, list(machine.features), machine.cores
        )
        self._flush = _FLUSH if self._cold and has_function(session, _FLUSH) else ""
        self._session = session

    def prepare(self, workload: Workload) -> None:
        """Make the inputs and the reference, here."""
        self._benches.bench(workload)

    def bench(self, workload: Workload) -> RemoteBench:
        """What measures this workload's candidates over there."""
        bench = self._benches.bench(workload)
        bench.attach(self._session, self._flush)
        return bench

    def lost(self) -> bool:
        """Whether the session, or the device with it, is gone: it no longer answers something trivial."""
        try:
            self._session.get_function("runtime.NumThreads")()
        except Exception:  # TVM raises anything
            return True
        return False

    def _leave(self) -> None:
        for bench in self._benches:
            bench.detach()
        self._session = None
        gc.collect()  # the connection ends with the last object that lives over there
