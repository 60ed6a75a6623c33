"""Schedule spaces whose candidates do what candidates should not: the measuring process loads them by name.

The workload is a small ChannelScale; decision `mode` says what its kernel does, `salt` makes more points of each.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as tir

from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.schedules.space import Decisions, Space

WORKLOAD = ChannelScale(1, 8, 8, 16)
MACHINE = replace(load_target("x86-64-v3"), cores=1)

SLOW, FAST, WRONG, UNFINISHED, UNBUILDABLE, ABORTS, HANGS, SLOWEST = range(8)

_SLEEP_US = {SLOW: 500, SLOWEST: 2000}


def environment() -> dict[str, str]:
    """This process's environment for one that finds these spaces by name."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def space_of(workload: Workload, machine: Machine) -> Space | None:
    """Good candidates only: slow by default, one of them fast."""
    return toy(workload, modes=(SLOW, FAST, SLOWEST), salts=2)


def many_space_of(workload: Workload, machine: Machine) -> Space | None:
    """Good candidates only, a dozen of them."""
    return toy(workload, modes=(SLOW, FAST, SLOWEST), salts=4)


def endless_space_of(workload: Workload, machine: Machine) -> Space | None:
    """Good candidates only, more of them than are measured in minutes."""
    return toy(workload, modes=(SLOW, FAST, SLOWEST), salts=1000)


def bad_space_of(workload: Workload, machine: Machine) -> Space | None:
    """Every kind of bad candidate beside the slow default and a fast one."""
    return toy(workload, modes=tuple(range(8)), salts=1)


def toy(workload: Workload, modes: tuple[int, ...], salts: int) -> Space | None:
    if not isinstance(workload, ChannelScale):
        return None
    axes = {"mode": modes, "salt": tuple(range(salts))}
    return Space("toy", axes, {"mode": SLOW, "salt": 0}, lambda decisions: _build(workload, decisions))


def _build(workload: ChannelScale, decisions: Decisions) -> Any:
    # Loaded where a toy is built: tests that only name one need no compiler.

    mode = decisions["mode"]
    if mode == UNBUILDABLE:
        raise ValueError("no such schedule")
    rows = workload.height - (mode == UNFINISHED)
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name(workload.name)
        tir.func_attr({"global_symbol": workload.name, "tirx.noalias": True, "tirx.is_scheduled": True})
        arguments = (*workload.inputs, *workload.outputs)
        data, gate, out = (tir.arg(a.name, tir.buffer(a.shape, a.dtype, layout=None)) for a in arguments)
        if mode in _SLEEP_US:
            tir.evaluate(tirx.call_extern("int32", "usleep", _SLEEP_US[mode]))
        if mode == ABORTS:
            tir.evaluate(tirx.call_extern("int32", "abort"))
        if mode == HANGS:
            tir.evaluate(tirx.call_extern("int32", "sleep", 1000))
        with tir.serial(0, rows) as y, tir.serial(0, workload.width) as x, tir.serial(0, workload.channels) as c:
            value = data[0, y, x, c] * gate[0, 0, 0, c]
            value = value + tirx.const(1e-3, "float32") if mode == WRONG else value
            tir.buffer_store(out, value, [0, y, x, c])
    return builder.get()
