"""Other people's programs: found, or the package to install named; run, or their complaint in one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effgen.errors import BuildError
from effgen.files.temporary import temporary_folder
from effgen.machines import guard


def required_tool(names: Sequence[str], purpose: str, fix: str) -> str:
    """The path of the first of these programs that is there, also where pip put it beside this Python.

    Raises BuildError where there is none: `purpose` says what it does, `fix` what to run.
    """
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    for name in names:
        found = shutil.which(name, path=places)
        if found:
            return found
    others = f" (looked for {', '.join(names)})" if len(names) > 1 else ""
    raise BuildError(f"{names[0]}: not found{others}: it {purpose}; install it, e.g. {fix}")


def guarded(command: Sequence[str | Path]) -> list[str]:
    """The command that runs another one which ends with this process, however that ends."""
    return [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), *map(str, command)]


def run_program(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of another program, captured as text, which ends with this process however that ends.

    `options` are those of `subprocess.run`. A command that is not there ends with status 127.
    """
    return subprocess.run(guarded(command), capture_output=True, text=True, check=False, **options)


def tool_output(command: Sequence[str | Path], failure: str) -> str:
    """Standard output of a command. Raises BuildError, `failure` and the line that says most, where it fails.

    Compilers that are killed leave their temporary files: they lie in a folder that is swept.
    """
    with temporary_folder("tool") as folder:
        done = run_program(command, env={**os.environ, "TMPDIR": str(folder)})
    if done.returncode != 0:
        raise BuildError(f"{failure}: {complaint(done.stderr + done.stdout)}")
    return done.stdout


def tool_version(program: str) -> str:
    """What a program says of its version: the line of `--version` with a number in it; empty where it says none."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in done.stdout.splitlines()]
    return next((line for line in lines if re.search(r"\d+\.\d+\.\d+", line)), "")


def complaint(text: str) -> str:
    """The first line that reports an error, as compilers, linkers, CMake and pip do, with the next one where it says
    only at which place; else the last that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # collect2's is about a linker that has said itself why.
    errors = [number for number, line in enumerate(lines) if _REPORTS.search(line) and "ld returned" not in line]
    if not errors:
        told = [line for line in lines if "ld returned" not in line and "Command line:" not in line]
        return (told or lines or ["it said nothing"])[-1]
    first = errors[0]
    return " ".join(lines[first : first + 2]) if lines[first].endswith(":") else lines[first]


#: `file.c:3: error: ...`, `CMake Error at CMakeLists.txt:3 (project):`.
_REPORTS = re.compile(r"\berror(:| at ) ?", re.IGNORECASE)
