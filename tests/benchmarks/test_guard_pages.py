"""No kernel reads or writes outside its buffers; and one that does is found, by name and argument."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from workloads import SOME

from effgen.machines.machine import Cpu
from effgen.machines.target import load_target
from effgen.runtime.library import prepare_tvm

prepare_tvm()

from guard_pages import try_kernels, try_network  # noqa: E402
from guards.campaign import build_guards, run_functions  # noqa: E402
from guards.kernels import ON_HEAP, Kernel, build_library  # noqa: E402
from guards.memory import POISON, Guarded  # noqa: E402
from guards.odd import odd_kernels  # noqa: E402
from tvm.script.ir_builder import IRBuilder  # noqa: E402
from tvm.tirx import Buffer  # noqa: E402
from tvm.tirx.script.builder import ir as tir  # noqa: E402

from effgen.kernels import lowering  # noqa: E402
from effgen.schedules import kernel_from_workload  # noqa: E402

#: Floats of the arrays of the kernels below: not a whole number of vectors, cache lines or pages.
COUNT = 1001


@pytest.fixture(scope="module")
def machine() -> Cpu:
    found = load_target("cpu")
    assert isinstance(found, Cpu)
    return found


def copying(name: str, read: int = 0, written: int = 0, count: int = COUNT, own: int | None = None) -> Kernel:
    """out[i + written] = data[i + read] for i below `count`, through an array of its own of so many floats."""
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name(name)
        tir.func_attr({"global_symbol": name, "tirx.is_scheduled": True, "tirx.noalias": True})
        data = tir.arg("data", tir.buffer((COUNT,), "float32", layout=None))
        out = tir.arg("out", tir.buffer((COUNT,), "float32", layout=None))
        between: Buffer = data
        if own is not None:
            between = tir.alloc_buffer((own,), "float32", scope="global", layout=None)
            with tir.serial(0, count) as i:
                tir.buffer_store(between, data[i], [i])
        with tir.serial(0, count) as i:
            tir.buffer_store(out, between[i + read], [i + written])
    return Kernel(name, builder.get())


def test_kernels_that_do_not_keep_to_their_buffers(machine: Cpu, tmp_path: Path) -> None:
    """Each is found, and named with the argument at which it dies; those beside it are tried all the same."""
    kernels = [
        copying("good"),
        copying("reads_behind", read=1),
        copying("reads_before", read=-1),
        copying("writes_behind", written=1),
        copying("leaves_out", count=COUNT - 1),
        copying("good_own", own=COUNT),
        copying("own_behind", own=COUNT - 17),
        # Within the last cache line of its own array nothing dies, but what stood behind it is gone.
        copying("own_by_one", own=COUNT - 1),
    ]
    build_guards(tmp_path)
    with lowering.tvm_target(machine):
        build_library(kernels, machine, tmp_path)
    tally = run_functions(tmp_path, {kernel.name: kernel.parameters for kernel in kernels})
    assert (tally.functions, tally.calls) == (8, 16)
    faults = {str(fault) for fault in tally.faults}
    assert {
        "reads_behind: SIGSEGV with its buffers at the end: data",
        "reads_before: SIGSEGV with its buffers at the start: data",
        "writes_behind: SIGSEGV with its buffers at the end: out",
        "writes_behind: wrote beside out, placed at the start",
        "leaves_out: left or spread poison in out",
        "own_behind: SIGSEGV with its buffers at the end: an array of its own",
        "own_by_one: wrote beside 1 arrays of its own",
    } <= faults
    assert not {fault for fault in faults if fault.startswith("good")}


def test_what_is_written_is_told_from_what_is_read(machine: Cpu) -> None:
    """By the kernels' own knowledge of their arguments."""
    for workload in SOME:
        parameters = Kernel(workload.name, kernel_from_workload(workload, machine)).parameters
        roles = ["input"] * (len(parameters) - len(workload.outputs)) + ["output"] * len(workload.outputs)
        assert [parameter.role for parameter in parameters] == roles, workload


def test_every_kind_of_kernel_at_odd_shapes(machine: Cpu) -> None:
    kernels = [Kernel(each.name, kernel_from_workload(each, machine)) for each in SOME]
    tally = try_kernels(kernels, machine, [ON_HEAP])
    assert (tally.functions, tally.calls) == (len(SOME), 2 * len(SOME)) and tally.own_arrays > len(SOME)
    assert not tally.faults


@pytest.mark.slow
def test_random_kernels(machine: Cpu) -> None:
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    kernels = odd_kernels(150, seed, machine)
    assert len(kernels) == 150
    assert not try_kernels(kernels, machine).faults


@pytest.mark.slow
def test_all_shapes_of_b0_to_b4(machine: Cpu) -> None:
    kernels: dict[str, Kernel] = {}
    programs = [try_network("efficientnet", phi, machine, kernels) for phi in "01234"]
    assert not any(program.faults for program in programs)
    assert len(kernels) > 150
    assert not try_kernels(list(kernels.values()), machine).faults


@pytest.mark.parametrize("size", [1, 4, 63, 64, 4096, 5000])
@pytest.mark.parametrize("placement", ["end", "start"])
def test_guarded_memory(size: int, placement: str) -> None:
    buffer = Guarded(size, placement, 1)  # type: ignore[arg-type]
    assert buffer.array.size == size and buffer.is_intact
    border = buffer.array.ctypes.data + (size if placement == "end" else 0)
    assert border % 4096 == 0
    buffer.array[:] = 7
    assert buffer.is_intact


def test_poison_is_counted_and_what_is_written_beside_noticed() -> None:
    buffer = Guarded(40, "end", 64)
    assert buffer.poisoned == 10
    buffer.array.view(np.float32)[3:] = np.nan
    assert buffer.poisoned == 3
    assert np.isnan(np.uint32(POISON).view(np.float32))
    behind = np.lib.stride_tricks.as_strided(buffer.array, (41,))
    behind[40] = 0
    assert not buffer.is_intact
