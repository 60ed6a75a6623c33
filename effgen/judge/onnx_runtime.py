"""onnxruntime, which judges readings and is raced against, without its telemetry."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType


def onnxruntime_module() -> ModuleType:
    """The package. Raises ModuleNotFoundError where it is not installed.

    On import it would start a thread, and write an identifier into TMPDIR and a database below the user's cache, unless
    this variable is set; what the user has set stays (`findings/onnxruntime_import_starts_telemetry.sh`).
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_module("onnxruntime")
