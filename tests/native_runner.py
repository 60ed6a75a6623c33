"""What the tests of `effgen-run` share."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from effgen.deploy.native import Runner

HERE = f"{platform.machine()}-linux-gnu"
ARM = "aarch64-linux-gnu"


def run(runner: Runner, *options: object, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([runner.program, *map(str, options)], capture_output=True, text=True, **how)


def script(path: Path, text: str) -> Runner:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Runner(path)
