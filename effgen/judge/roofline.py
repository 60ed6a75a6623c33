"""What this machine can do at best: multiply-adds and bytes a second, measured and not read from a data sheet.

The probes are kernels that TVM compiles for this machine and runs on its own thread pool, as the networks' kernels are:
the ceilings are of the same compiler, threads and power state. The best of many short runs counts, since anything
else on the machine only makes a probe slower.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from effgen.machines.machine import Cpu
from effgen.machines.target import this_cpu
from effgen.measure.probes import STREAMS, compiled, multiply_add_kernel, read_kernel, update_kernel
from effgen.results.ceilings import Bandwidth, Ceilings
from effgen.runtime.library import prepare_tvm

#: The level of the largest buffer, several times the last-level cache.
MEMORY = "memory"

_TIMES_LAST_LEVEL = 4
_UNKNOWN_LAST_LEVEL = 64 << 20
#: Share of a cache that a buffer takes which is to stay in it.
_SHARE_OF_CACHE = 0.5
#: A buffer takes at most this share of the machine's memory.
_SHARE_OF_MEMORY = 0.125

#: Bytes that one timed run moves at least, so that waking the threads is lost in it.
_RUN_BYTES = 64 << 20
#: Bursts of a probe, the pause before each, and runs in a burst.
_BURSTS, _PAUSE_S, _REPEATS = 5, 0.02, 3
#: Short runs and many: beside a busy process some of them still find all CPUs free.
_PEAK_STEPS, _PEAK_REPEATS = 50_000, 30


def best_ceilings(one: Ceilings, other: Ceilings) -> Ceilings:
    """The higher of each number of two measurements of the same levels."""
    assert (one.threads, len(one.bandwidths)) == (other.threads, len(other.bandwidths))
    bandwidths = (
        replace(a, read=max(a.read, b.read), update=max(a.update, b.update))
        for a, b in zip(one.bandwidths, other.bandwidths, strict=True)
    )
    return Ceilings(one.threads, max(one.peak_gflops, other.peak_gflops), tuple(bandwidths))


def working_sets(caches: Mapping[str, int], threads: int, memory_bytes: int) -> dict[str, int]:
    """Buffer sizes in bytes by level: half of all threads' second levels, half of the third, and `MEMORY`.

    `caches` is `machine.Host.caches`. The third level is taken for shared, the lower ones for one core's own.
    """
    sizes = {}
    if "L2" in caches:
        sizes["L2"] = int(caches["L2"] * threads * _SHARE_OF_CACHE)
    if "L3" in caches:
        sizes["L3"] = int(caches["L3"] * _SHARE_OF_CACHE)
    private = caches.get("L2", 0) * threads
    last_level = max(private, caches.get("L3", 0)) or _UNKNOWN_LAST_LEVEL
    sizes[MEMORY] = int(min(last_level * _TIMES_LAST_LEVEL, memory_bytes * _SHARE_OF_MEMORY))
    return sizes


class Probes:
    """Compiled once, to be run before and after what is measured against them: take `best_ceilings` of both.

    `sizes` are working sets in bytes by level, as from `working_sets`. Needs the TVM compiler.
    """

    def __init__(self, threads: int, sizes: Mapping[str, int]) -> None:
        prepare_tvm()
        machine = this_cpu().with_threads(threads)
        self._machine = machine
        self._sizes = {level: _whole_steps(size, machine) for level, size in sizes.items()}
        functions = {"peak": multiply_add_kernel("peak", *_peak_shape(machine), steps=_PEAK_STEPS)}
        for level, size in self._sizes.items():
            whole, half = _buffer_shape(machine, size), _buffer_shape(machine, size // 2)
            functions[f"read_{level}"] = read_kernel(f"read_{level}", whole, _passes(size))
            functions[f"update_{level}"] = update_kernel(f"update_{level}", half, _passes(size))
        self._library = compiled(functions, machine)

    def measure(self) -> Ceilings:
        """Run them all: a fraction of a second for each level."""
        bandwidths = tuple(self._bandwidth(level, size) for level, size in self._sizes.items())
        return Ceilings(self._machine.cores, _peak(self._library, self._machine), bandwidths)

    def _bandwidth(self, level: str, size: int) -> Bandwidth:
        moved = size * _passes(size)
        machine, library = self._machine, self._library
        read_s = _fastest(library, f"read_{level}", machine, _buffer_shape(machine, size), _sums_shape(machine))
        half = _buffer_shape(machine, size // 2)
        update_s = _fastest(library, f"update_{level}", machine, half, half)
        # `update` reads both halves and writes one of them.
        return Bandwidth(level, size, moved / read_s / 1e9, 1.5 * moved / update_s / 1e9)


def _peak(library: Any, machine: Cpu) -> float:
    """Float32 GFLOP/s of multiply-adds in registers on `machine.cores` threads; a multiply-add is two operations."""
    shape = _peak_shape(machine)
    flops = 2 * _PEAK_STEPS * int(np.prod(shape))
    return flops / _fastest(library, "peak", machine, shape, repeats=_PEAK_REPEATS) / 1e9


def _fastest(library: Any, name: str, machine: Cpu, *shapes: tuple[int, ...], repeats: int = _REPEATS) -> float:
    """Seconds of the fastest of several runs, in bursts whose first run is not counted."""
    import tvm

    function = library[name]
    tensors = [tvm.runtime.tensor(np.ones(shape, np.float32)) for shape in shapes]
    # The thread pool is shared with the bundles, which set it before every call: 1 stands for "the big cores".
    tvm.get_global_func("runtime.config_threadpool")(1, machine.cores)
    times = []
    for _ in range(_BURSTS):
        # Beside a busy process two threads may share a CPU for as long as they spin: asleep, they are put elsewhere.
        time.sleep(_PAUSE_S)
        function(*tensors)
        times += [_timed(function, tensors) for _ in range(repeats)]
    return min(times)


def _timed(function: Any, tensors: list[Any]) -> float:
    start = time.perf_counter()
    function(*tensors)
    return time.perf_counter() - start


def _step_bytes(machine: Cpu) -> int:
    """Bytes that all threads read in one step of the read probe."""
    return machine.cores * STREAMS * machine.lanes * 4


def _whole_steps(size: int, machine: Cpu) -> int:
    """`size` bytes rounded to an even number of steps, at least two: the update probe halves it."""
    return max(1, size // (2 * _step_bytes(machine))) * 2 * _step_bytes(machine)


def _passes(size: int) -> int:
    """How often one run goes over a buffer of `size` bytes."""
    return max(1, _RUN_BYTES // size)


def _buffer_shape(machine: Cpu, size: int) -> tuple[int, ...]:
    return (machine.cores, size // _step_bytes(machine), STREAMS, machine.lanes)


def _sums_shape(machine: Cpu) -> tuple[int, ...]:
    return (machine.cores, STREAMS, machine.lanes)


def _peak_shape(machine: Cpu) -> tuple[int, int, int]:
    # As many chains as there are registers, less the two constants and some air for the compiler.
    return (machine.cores, machine.vector_registers - 4, machine.lanes)
