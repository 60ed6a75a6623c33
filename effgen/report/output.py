"""Where a report goes as JSON: a file, or standard output and nothing else there."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from effgen.files.text import check_writable, write_text
from effgen.version import __version__

STANDARD_OUTPUT = "-"


def check_json_path(destination: str | None) -> None:
    """Raise EffgenError where `write_json` could not write: before the work, not after it."""
    if destination is not None and destination != STANDARD_OUTPUT:
        check_writable("--json", Path(destination), "or - for standard output")


def write_json(data: dict[str, Any], destination: str) -> None:
    """Write `data` to the path `destination`, or to standard output for "-". Raises EffgenError where it cannot."""
    text = json.dumps(_plain({"effgen": __version__, **data}), indent=2, allow_nan=False) + "\n"
    if destination == STANDARD_OUTPUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    write_text("--json", Path(destination), text)


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN: null stands for both."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
