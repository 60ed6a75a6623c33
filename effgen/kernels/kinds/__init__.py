"""The kinds of kernels, each in a file of its own: whatever stands in this folder is one."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from effgen.kernels.workload import Workload


@cache
def kinds() -> tuple[type[Workload], ...]:
    """All of them, found by their files."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    return tuple(
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Workload) and found.__module__ == module.__name__
    )


def workload_from_name(name: str) -> Workload | None:
    """What a kernel of this name computes; None where no kernel that this version makes has it.

    A file of records may be older or newer than this program and name kernels that it knows nothing of.
    """
    found = (_read(kind, name) for kind in kinds())
    return next((workload for workload in found if workload is not None and workload.name == name), None)


def _read(kind: type[Workload], name: str) -> Workload | None:
    try:
        return kind.from_name(name)
    except AssertionError:  # numbers that make no kernel
        return None
