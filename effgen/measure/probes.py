"""Small kernels that measure this machine itself: TVM compiles them, as it does the networks', and runs them.

What they are for is decided elsewhere: ceilings of speed (`effgen.judge.roofline`), costs for the schedule rules
(`effgen.judge.calibration`). Shapes are (thread, step, stream, lane): a thread's part of a buffer is contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from effgen.machines.machine import Cpu

#: Vectors in flight where a buffer is read: enough to hide an addition's latency.
STREAMS = 8

#: Dependent additions of one turn of `clock_kernel`'s loop, and as many exclusive ors.
_CLOCK_LINKS = 16


def compiled(functions: Mapping[str, Any], machine: Cpu) -> Any:
    """The functions as a library."""
    import tvm

    return tvm.compile(tvm.IRModule(dict(functions)), tvm.target.Target(machine.llvm)).mod


def kernel(
    name: str,
    threads: int,
    shapes: Mapping[str, tuple[int, ...]],
    body: Callable[..., None],
    dtype: str = "float32",
) -> Any:
    """A PrimFunc on buffers of `shapes` that runs `body(thread, *buffers)` on every thread."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as tir

    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name(name)
        tir.func_attr({"global_symbol": name, "tirx.noalias": True, "tirx.is_scheduled": True})
        buffers = [tir.arg(key, tir.buffer(shape, dtype, layout=None)) for key, shape in shapes.items()]
        with tir.parallel(0, threads) as thread:
            body(thread, *buffers)
    return builder.get()


@contextmanager
def registers(shape: tuple[int, ...], out: Any, thread: Any) -> Iterator[Any]:
    """A small buffer that LLVM keeps in registers: `out[thread]` before the block, stored back after it."""
    from tvm.tirx.script.builder import ir as tir

    streams, lanes = shape
    acc = tir.sblock_alloc_buffer(shape, "float32", scope="local", layout=None)
    for stream in range(streams):
        with tir.vectorized(0, lanes) as lane:
            tir.buffer_store(acc, out[thread, stream, lane], [stream, lane])
    yield acc
    for stream in range(streams):
        with tir.vectorized(0, lanes) as lane:
            tir.buffer_store(out, acc[stream, lane], [thread, stream, lane])


def multiply_add_kernel(name: str, threads: int, chains: int, lanes: int, steps: int) -> Any:
    """Independent chains of multiply-adds in registers, `steps` of each. Its argument: (threads, chains, lanes)."""
    from tvm import tirx
    from tvm.tirx.script.builder import ir as tir

    def body(thread: Any, out: Any) -> None:
        with registers((chains, lanes), out, thread) as acc, tir.serial(0, steps):
            for chain in range(chains):
                with tir.vectorized(0, lanes) as lane:
                    step = acc[chain, lane] * tirx.const(0.5, "float32") + tirx.const(0.25, "float32")
                    tir.buffer_store(acc, step, [chain, lane])

    return kernel(name, threads, {"out": (threads, chains, lanes)}, body)


def clock_kernel(name: str, cycles: int) -> Any:
    """`clock_cycles(cycles)` cycles of the core's clock: a chain of integer additions and exclusive ors, each of which
    takes the result of the one before, and one cycle on every processor that there is. Its argument: three int32
    numbers, of which the first is the result."""
    from tvm.tirx.script.builder import ir as tir

    def body(thread: Any, numbers: Any) -> None:
        value = tir.sblock_alloc_buffer((1,), "int32", scope="local", layout=None)
        tir.buffer_store(value, numbers[0], [0])
        with tir.serial(0, -(-cycles // (2 * _CLOCK_LINKS))):
            for _ in range(_CLOCK_LINKS):
                # The two in turn: neither commutes with the other, and so no compiler can add them up beforehand.
                tir.buffer_store(value, (value[0] ^ numbers[1]) + numbers[2], [0])
        tir.buffer_store(numbers, value[0], [0])

    return kernel(name, 1, {"numbers": (3,)}, body, "int32")


def clock_cycles(cycles: int) -> int:
    """How many cycles `clock_kernel` takes that was asked for so many."""
    return -(-cycles // (2 * _CLOCK_LINKS)) * 2 * _CLOCK_LINKS


def read_kernel(name: str, shape: tuple[int, ...], passes: int) -> Any:
    """Sums of a buffer of `shape`, gone over `passes` times. Its arguments: that buffer, (threads, streams, lanes)."""
    from tvm.tirx.script.builder import ir as tir

    threads, steps, streams, lanes = shape
    sums = (threads, streams, lanes)

    def body(thread: Any, data: Any, out: Any) -> None:
        with registers(sums[1:], out, thread) as acc, tir.serial(0, passes), tir.serial(0, steps) as step:
            for stream in range(streams):
                with tir.vectorized(0, lanes) as lane:
                    total = acc[stream, lane] + data[thread, step, stream, lane]
                    tir.buffer_store(acc, total, [stream, lane])

    return kernel(name, threads, {"data": shape, "out": sums}, body)


def update_kernel(name: str, shape: tuple[int, ...], passes: int) -> Any:
    """a = a / 2 + b for two buffers of `shape`. Every pass needs the one before it: none can be left out."""
    from tvm import tirx
    from tvm.tirx.script.builder import ir as tir

    threads, steps, streams, lanes = shape

    def body(thread: Any, a: Any, b: Any) -> None:
        with tir.serial(0, passes), tir.serial(0, steps) as step:
            for stream in range(streams):
                with tir.vectorized(0, lanes) as lane:
                    place = [thread, step, stream, lane]
                    value = a[tuple(place)] * tirx.const(0.5, "float32") + b[tuple(place)]
                    tir.buffer_store(a, value, place)

    return kernel(name, threads, {"a": shape, "b": shape}, body)


def copy_kernel(name: str, shape: tuple[int, ...], passes: int) -> Any:
    """A buffer of `shape` written, then read back, `passes` times; what is written depends on what was read last. Its
    arguments: that buffer, (threads, streams, lanes)."""
    from tvm import tirx
    from tvm.tirx.script.builder import ir as tir

    threads, steps, streams, lanes = shape
    sums = (threads, streams, lanes)

    def body(thread: Any, data: Any, out: Any) -> None:
        with registers(sums[1:], out, thread) as acc, tir.serial(0, passes):
            with tir.serial(0, steps) as step:
                for stream in range(streams):
                    with tir.vectorized(0, lanes) as lane:
                        tir.buffer_store(data, acc[stream, lane], [thread, step, stream, lane])
            with tir.serial(0, steps) as step:
                for stream in range(streams):
                    with tir.vectorized(0, lanes) as lane:
                        value = acc[stream, lane] * tirx.const(0.5, "float32") + data[thread, step, stream, lane]
                        tir.buffer_store(acc, value, [stream, lane])

    return kernel(name, threads, {"data": shape, "out": sums}, body)


def activation_kernel(name: str, activation: Any, steps: int, lanes: int, passes: int) -> Any:
    """`steps` vectors loaded, activated and stored, `passes` times. Its argument: `activation_shape`."""
    from tvm.tirx.script.builder import ir as tir

    from effgen.kernels.math import activate

    def body(thread: Any, data: Any) -> None:
        with tir.serial(0, passes), tir.serial(0, steps) as i, tir.vectorized(0, lanes) as lane:
            tir.buffer_store(data, activate(data[0, i, lane], activation), [1, i, lane])

    return kernel(name, 1, {"data": activation_shape(steps, lanes)}, body)


def activation_shape(steps: int, lanes: int) -> tuple[int, ...]:
    """Input and output in one array, some lines apart: addresses that agree in their last 12 bits hinder each other."""
    return (2, steps + 3, lanes)


def scaling_kernel(name: str, steps: int, vectors: int, lanes: int, passes: int) -> Any:
    """`steps` times `vectors` vectors, each step's times a number of its own, stored elsewhere, `passes` times. Its
    arguments: (steps, vectors, lanes), the numbers (steps,), (steps, vectors, lanes)."""
    from tvm.tirx.script.builder import ir as tir

    shape = (steps, vectors, lanes)

    def body(thread: Any, data: Any, scale: Any, out: Any) -> None:
        with tir.serial(0, passes), tir.serial(0, steps) as step:
            for vector in range(vectors):
                with tir.vectorized(0, lanes) as lane:
                    tir.buffer_store(out, data[step, vector, lane] * scale[step], [step, vector, lane])

    return kernel(name, 1, {"data": shape, "scale": (steps,), "out": shape}, body)
