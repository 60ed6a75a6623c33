"""Schedule rules: one family of kernels a file. The first rule that fits wins; the fallback takes the rest.

To add a family: write `<family>.py` with a rule `space(workload, machine)`, add it to `_RULES`, add a test. The rules
of GPUs are in `effgen.schedules.cuda`; which ones apply is decided here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, assert_never

from tvm.tirx import PrimFunc

from effgen.kernels.operator import Operator
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu, Gpu, Machine
from effgen.schedules import (
    concat,
    conv2d,
    cuda,
    depthwise,
    elementwise,
    fallback,
    grouped,
    interleave,
    pointwise,
    pool,
    squeeze_excite,
    window_pool,
)
from effgen.schedules.common import AnyMachine, Rule
from effgen.schedules.space import Decisions, Space
from effgen.schedules.traces import traces_of

__all__ = ["kernel_from_workload", "schedule_operator", "space_of"]

_RULES: tuple[Rule[Any, Cpu], ...] = (
    pointwise.space,
    depthwise.expanded,
    depthwise.space,
    depthwise.mixed,
    squeeze_excite.space,
    conv2d.space,
    grouped.space,
    pool.space,
    window_pool.space,
    concat.space,
    interleave.space,
    elementwise.space,
)


@dataclass(frozen=True)
class _Schedules(Generic[AnyMachine]):
    """The rules that apply to a machine, and the fallback for any other function."""

    machine: AnyMachine
    rules: tuple[Callable[[Workload, AnyMachine], Space | None], ...]
    fallback: Callable[[PrimFunc, AnyMachine], PrimFunc]

    def space(self, workload: Workload) -> Space | None:
        """The first rule's that fits; of an operator the fallback, which leaves nothing to decide."""
        if isinstance(workload, Operator):
            return self.fallback_space(workload)
        spaces = (rule(workload, self.machine) for rule in self.rules)
        space = next((space for space in spaces if space is not None), None)
        return space and replace(space, traces=traces_of(workload, self.machine))

    def fallback_space(self, workload: Operator) -> Space:
        """One point, and what MetaSchedule may find."""
        build = lambda decisions: schedule_operator(workload.function, self.machine)  # noqa: E731
        return Space("fallback", {}, {}, build, traces=traces_of(workload, self.machine))

    def any_operator(self, func: PrimFunc) -> PrimFunc:
        """A function that no rule knows, scheduled."""
        return self.fallback(func, self.machine)


def _schedules_of(machine: Machine) -> _Schedules[Cpu] | _Schedules[Gpu]:
    match machine:
        case Cpu():
            return _Schedules(machine, _RULES, fallback.schedule_any)
        case Gpu():
            return _Schedules(machine, cuda.RULES, cuda.fallback.schedule_any)
        case _:
            assert_never(machine)


def space_of(workload: Workload, machine: Machine) -> Space | None:
    """The schedule space of a kernel: the first rule's that fits; None where a machine has no kernel of the kind."""
    return _schedules_of(machine).space(workload)


def kernel_from_workload(workload: Workload, machine: Machine, decisions: Decisions | None = None) -> PrimFunc:
    """The scheduled kernel `workload.name`: with these decisions, else its rule's default."""
    space = space_of(workload, machine)
    assert space is not None, workload
    return space.kernel(space.default if decisions is None else decisions)


def schedule_operator(func: PrimFunc, machine: Machine) -> PrimFunc:
    """The fallback schedule, for a function that no rule knows."""
    scheduled = _schedules_of(machine).any_operator(func)
    if "global_symbol" in func.attrs:
        scheduled = scheduled.with_attr("global_symbol", func.attrs["global_symbol"])
    return scheduled.with_attr("tirx.is_scheduled", True)
