"""Schedule rules: one family of kernels a file. The first rule that fits wins; the fallback takes the rest.

To add a family: write `<family>.py` with `apply(func, workload, machine)`, add it to `_RULES`, add a test.
"""

from __future__ import annotations

from tvm.tirx import PrimFunc

from effgen.kernels.workload import Workload
from effgen.schedules import conv2d, dense, depthwise, elementwise, fallback, pointwise, pool
from effgen.schedules.common import Rule, tvm_target
from effgen.target import Machine

__all__ = ["schedule_primfunc", "tvm_target"]

_RULES: dict[str, Rule] = {
    "pointwise": pointwise.apply,
    "depthwise": depthwise.apply,
    "conv2d": conv2d.apply,
    "dense": dense.apply,
    "pool": pool.apply,
    "scale": elementwise.apply,
}


def schedule_primfunc(func: PrimFunc, workload: Workload | None, machine: Machine) -> tuple[PrimFunc, str]:
    """The scheduled function and where its schedule came from: `rule:<name>` or `fallback`.

    `workload` is what `func` was made from, or None for a function that no workload describes.
    """
    if workload is not None:
        for name, rule in _RULES.items():
            schedule = rule(func, workload, machine)
            if schedule is not None:
                return _mark(schedule.mod["main"], func), f"rule:{name}"
    return _mark(fallback.schedule_any(func, machine), func), "fallback"


def _mark(scheduled: PrimFunc, original: PrimFunc) -> PrimFunc:
    """Restore the name and tell TVM's own passes to leave the function alone."""
    if "global_symbol" in original.attrs:
        scheduled = scheduled.with_attr("global_symbol", original.attrs["global_symbol"])
    return scheduled.with_attr("tirx.is_scheduled", True)
