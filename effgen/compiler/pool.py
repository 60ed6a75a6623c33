"""The pool that shares out a bundle's kernels, and its library's entry: the C of `native/pool/`, as one object."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from effgen.machines.old_glibc import objcopy, old_symbols
from effgen.machines.programs import tool_output

_SOURCES, _SCRATCH = ("entry.c", "idle.c", "pool.c", "cpus.c"), "scratch.c"
_FLAGS = ("-O2", "-std=c11", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")


def write_pool(compiler: str, architecture: str, path: Path, scratch: Path | None = None) -> None:
    """Write the object file `path` for `architecture`. Raises BuildError where `compiler` or a tool of its fails.
    `scratch`: C in the place of `scratch.c`, for who watches what kernels do with their memory.

    No instruction set beyond the architecture's first is used. Everything but the entry is hidden: what kernels call
    through, `__TVMBackendParallelLaunch` and the like, is bound within the library, where TVM's loader does not find it
    and so does not put its own there.
    """
    folder = Path(str(resources.files("effgen.native_sources"))) / "pool"
    files = [*(folder / name for name in _SOURCES), scratch or folder / _SCRATCH]
    sources = [word for file in files for word in ("-x", "c", file)]  # for one file only, says g++
    tool_output(
        [compiler, *_FLAGS, "-r", "-nostdlib", "-o", path, *sources],
        f"{path.name}: compiling with {compiler} failed",
    )
    renamed = old_symbols(compiler, architecture).objcopy
    if renamed:
        objcopy(compiler, renamed, path)
