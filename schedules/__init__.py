"""Schedule rules: one family of kernels a file. The first rule that fits wins; the fallback takes the rest.

To add a family: write `<family>.py` with a rule `space(workload, machine)`, add it to `_RULES`, add a test.
"""

from __future__ import annotations

from typing import Any

from tvm.tirx import PrimFunc

from effgen.kernels.compute import grouped_primfunc
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.workload import Workload
from effgen.machines.target import Machine
from effgen.schedules import (
    concat,
    conv2d,
    cuda,
    depthwise,
    elementwise,
    fallback,
    pointwise,
    pool,
    squeeze_excite,
    window_pool,
)
from effgen.schedules.common import Rule, tvm_target
from effgen.schedules.space import Decisions, Space

__all__ = ["kernel_from_workload", "schedule_operator", "space_of", "tvm_target"]

_RULES: tuple[Rule[Any], ...] = (
    pointwise.space,
    depthwise.expanded,
    depthwise.space,
    squeeze_excite.space,
    conv2d.space,
    pool.space,
    window_pool.space,
    concat.space,
    elementwise.space,
)


def space_of(workload: Workload, machine: Machine) -> Space | None:
    """The schedule space of a kernel: the first rule's that fits; None where only the fallback is left."""
    rules = _RULES if machine.gpu is None else cuda.RULES
    spaces = (rule(workload, machine) for rule in rules)
    return next((space for space in spaces if space is not None), None)


def kernel_from_workload(workload: Workload, machine: Machine, decisions: Decisions | None = None) -> PrimFunc:
    """The scheduled kernel `workload.name`: with these decisions, else its rule's default, else the fallback."""
    space = space_of(workload, machine)
    if space is not None:
        return space.build(space.default if decisions is None else decisions)
    assert isinstance(workload, Conv2d), workload
    return schedule_operator(grouped_primfunc(workload, machine), machine)


def schedule_operator(func: PrimFunc, machine: Machine) -> PrimFunc:
    """The fallback schedule, for a function that no rule knows."""
    scheduled = (fallback if machine.gpu is None else cuda.fallback).schedule_any(func, machine)
    if "global_symbol" in func.attrs:
        scheduled = scheduled.with_attr("global_symbol", func.attrs["global_symbol"])
    return scheduled.with_attr("tirx.is_scheduled", True)
