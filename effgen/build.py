"""Scheduled module -> shared library and weights, by TVM's code generator and the system's C++ linker."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import tvm

from effgen.dump import Dump
from effgen.errors import BuildError
from effgen.kernels import lowering
from effgen.pipeline import ScheduledModule
from effgen.runtime.manifest import LIBRARY, WEIGHTS


def write_library(scheduled: ScheduledModule, target: tvm.target.Target, folder: Path, dump: Dump) -> None:
    """Generate machine code for `target` and link it into the shared library of the bundle `folder`, and write the
    weights beside it; the kernels' assembly goes to `dump`.

    Raises BuildError where there is no linker or it fails.
    """
    compiler = linker()
    executable = tvm.compile(scheduled.mod, target, tir_pipeline=lowering.PIPELINE)
    if dump.wanted:
        dump.write("assembly", executable.mod.inspect_source("s"), "s")
    path = folder / LIBRARY
    try:
        executable.export_library(str(path), fcompile=tvm.support.cc.create_shared, cc=compiler)
    except RuntimeError as error:
        raise BuildError(f"{path}: linking with {compiler} failed: {last_line(error)}") from None
    scheduled.program.weights.astype("<f4", copy=False).tofile(folder / WEIGHTS)


def linker() -> str:
    """The C++ compiler that links: $CXX, else the first of c++, g++, clang++ on the path."""
    wanted = os.environ.get("CXX")
    names = [wanted] if wanted else ["c++", "g++", "clang++"]
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise BuildError(
        f"no C++ compiler found (looked for {', '.join(names)}): it links the library; "
        f"install one, e.g. apt-get install g++, or set CXX"
    )


def last_line(error: Exception) -> str:
    """The last line of an error's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
