"""What takes long to make and no test changes: made once a run, by whichever of its processes needs it first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` as `make` makes it; other processes of this run wait for that.

    What could not be made is tried again by the next one that needs it, so `make` may find what was left of it.
    """
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)
    folder, mark = shared / name, shared / f"{name}.made"
    with FileLock(shared / f"{name}.lock"):
        if not mark.exists():
            make(folder)
            mark.touch()
    return folder
