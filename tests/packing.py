"""What the tests of `effgen pack` share: names, and the archive's own way to verify itself."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

HERE = platform.machine()
TOP = f"tiny-phi-0-cpu-{HERE}"
QEMU = "qemu-aarch64-static"


def verify(folder: Path, *options: object, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / "verify", *map(str, options)], capture_output=True, text=True, **how)


def refused(folder: Path, message: str, **how: Any) -> None:
    """One line, and nothing on standard output, where effgen-run would have said something."""
    done = verify(folder, **how)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("verify: ") and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr
