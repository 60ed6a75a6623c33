"""Compiled kernels -> the bytes of an object file, by way of memory.

LLVM ends the whole process where it cannot write a file, a full disk say. A file in memory it can always write, and
what cannot be copied from there is an error of ours.
"""

from __future__ import annotations

import os
from typing import Any

from effgen.errors import BuildError

#: More than the machine code of any network; a limit of files' sizes (`ulimit -f`) below it is refused beforehand.
_LARGEST = 64 << 20


def object_code(executable: Any) -> bytes:
    """What the object file holds. Raises BuildError where files may not be as large as that."""
    assert executable.mod.kind == "llvm" and not executable.mod.imports, "kernels for CPUs are one module of LLVM's"
    memory = os.memfd_create("effgen")
    try:
        os.ftruncate(memory, _LARGEST)
        executable.mod.write_to_file(f"/proc/self/fd/{memory}", "o")
        return os.pread(memory, os.fstat(memory).st_size, 0)
    except OSError as error:
        raise BuildError(f"machine code cannot be written: {error.strerror}; raise the limit (ulimit -f)") from None
    finally:
        os.close(memory)
