"""Libraries made on a new Linux that older ones load as well.

glibc 2.32 and 2.34 moved functions from libpthread to libc under new versions, which older systems lack; the first ones
are still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from effgen.machines.programs import required_tool, tool_output

_MOVED = ("pthread_create", "pthread_join", "pthread_sigmask")
_PTHREAD = "libpthread.so.0"

#: By architecture: the version of glibc that first ran on it.
FIRST_GLIBC = {"x86_64": "GLIBC_2.2.5", "aarch64": "GLIBC_2.17"}


@dataclass(frozen=True)
class OldSymbols:
    """What makes an object's calls those of an older system: objcopy's options, then the linker's."""

    objcopy: tuple[str, ...] = ()
    link: tuple[str, ...] = ()


@cache
def old_symbols(compiler: str, architecture: str) -> OldSymbols:
    """For what `compiler` makes for `architecture`; nothing where its system has no libpthread apart, or its first
    glibc is not known."""
    found = tool_output([compiler, f"-print-file-name={_PTHREAD}"], f"{compiler} failed").strip()
    if found == _PTHREAD or architecture not in FIRST_GLIBC:
        return OldSymbols()
    renamed = (f"--redefine-sym={symbol}={symbol}@{FIRST_GLIBC[architecture]}" for symbol in _MOVED)
    return OldSymbols(tuple(renamed), ("-Wl,--no-as-needed", f"-l:{_PTHREAD}", "-Wl,--as-needed"))


def objcopy(compiler: str, options: Sequence[str], path: Path) -> None:
    """Change an object file in place, by the compiler's own objcopy. Raises BuildError where there is none, or it
    fails."""
    tool_output([binary_tool(compiler, "objcopy"), *options, path], f"{path.name}: objcopy failed")


@cache
def binary_tool(compiler: str, name: str) -> str:
    """The compiler's own tool (objcopy, ar): a cross compiler's is another than this machine's. Raises BuildError."""
    found = tool_output([compiler, f"-print-prog-name={name}"], f"{compiler} -print-prog-name={name} failed").strip()
    return required_tool([found], "makes libraries", "apt-get install binutils")
