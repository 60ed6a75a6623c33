"""What a machine is, as Linux tells: here, behind an RPC server, or in an offline folder.

That folder holds a copy of this very file, so it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import platform
from pathlib import Path

_CPUINFO, _DEVICE_TREE = Path("/proc/cpuinfo"), Path("/proc/device-tree/model")


def identity() -> dict[str, str | list[str]]:
    """`device` (its name), `architecture` and `features` of this machine, as /proc/cpuinfo spells them."""
    return {"device": device_name(), "architecture": platform.machine(), "features": sorted(cpu_flags())}


def device_name() -> str:
    """The board's model, else the processor's marketing name, else its numbers."""
    model = file_text(_DEVICE_TREE).strip(" \0\n")
    info = cpuinfo()
    part = info.get("CPU part")
    numbers = f"implementer {info.get('CPU implementer', '?')} part {part}" if part else platform.machine()
    return model or info.get("model name") or numbers


def cpu_flags() -> frozenset[str]:
    """Names of the instruction sets that this processor has."""
    info = cpuinfo()
    return frozenset(info.get("flags", info.get("Features", "")).split())


def unfit_for(architecture: str, features: list[str], machine: dict[str, str | list[str]]) -> str:
    """Why a machine of this `identity` cannot run code for an architecture with these features; empty where it can."""
    if machine["architecture"] != architecture:
        return f"is {machine['architecture']}; the kernels are built for {architecture}"
    missing = [feature for feature in features if feature not in machine["features"]]
    return f"lacks {', '.join(missing)}, which the kernels use" if missing else ""


def cpuinfo() -> dict[str, str]:
    """The first processor's paragraph of /proc/cpuinfo."""
    first = file_text(_CPUINFO).split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def file_text(path: Path) -> str:
    """A file of /proc or /sys, empty where this kernel does not have it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
