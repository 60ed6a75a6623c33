"""Memory of this process, as Linux counts it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"


def resident_bytes() -> int | None:
    """Memory that this process has now, other processes' share of it included; the peak is counted from here on. None
    where the system does not tell."""
    with suppress(OSError):
        _CLEAR.write_text(_FORGET_PEAK)
    return _status("VmRSS")


def peak_bytes() -> int | None:
    """The most memory since `resident_bytes`; None where the system does not tell."""
    return _status("VmHWM")


def _status(key: str) -> int | None:
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
